import { type Decision, decide } from '../../../src/decision/decide.ts';
import type { Policy } from '../../../src/decision/policy.ts';
import { policyOf, type Settings } from './policy-of.ts';
import { sitesAsSeenBy, type World } from './world.ts';

/** What comes of a request. */
export interface Answer {
  /** The site whose pool served it; null: the client has a 503. */
  readonly servedBy: number | null;
  /** The sites whose cookie the client holds once it has the answer, as a set of bits. */
  readonly cookies: number;
  readonly ownership: Ownership;
  /** A 503 that says: not served, safe to try elsewhere. */
  readonly isRefusal: boolean;
  /** A 503 that the edge which has it now made itself; one that came from another edge is to it an answer like any. */
  readonly isMadeHere: boolean;
}

/** Whether the client holds the cookie of the site that served it and no other, or else why not. */
export type Ownership =
  | 'one owner'
  /** Nobody served the request. */
  | 'nobody'
  /** The remote route fell back into the local pool: stickiness is off there, and the decision was to forward. */
  | 'fallback'
  /** The site's sidecar has no opinion, so nobody expires anything. */
  | 'no opinion'
  /** By the sidecar's count no pool is up (row 6) and nobody can serve; but Envoy's local pool did. */
  | 'counted as down'
  /** The site has the original rules, which expire nothing. */
  | 'original rules'
  /** Decided for the local pool, which could not be reached; Envoy's retry took the request to another site. */
  | 'retried elsewhere';

/** What an edge receives. */
interface Request {
  readonly cookies: number;
  readonly hop: boolean;
}

export interface SitesOptions {
  readonly siteCount: number;
  readonly settings: Settings;
  /** The site with the original rules; null: none. */
  readonly original: number | null;
  readonly world: World;
}

/** More than any way through the edges may have: a loop ends here instead of in a stack overflow. */
const LOOP = 8;

/**
 * Sites as the design has them, with all that a request can meet on its way: each sidecar decides by its own snapshot,
 * and around it is modelled what Envoy (1.40 and later) does by the config that src/envoy-config renders. A pool that
 * is down refuses connections: what breaks under a request that it has taken is lost by any rules.
 */
export class Sites {
  /** How often the request was forwarded, on its longest way through the edges. */
  passes = 0;
  readonly #original: number | null;
  readonly #isOwnerOrNobody: boolean;
  readonly #isKept: boolean;
  readonly #world: World;
  readonly #members: readonly Member[];

  constructor({ siteCount, settings, original, world }: SitesOptions) {
    this.#original = original;
    // Rendered without the fallback and the priority groups.
    this.#isOwnerOrNobody = settings.onOwnerDown === 'refuse';
    this.#isKept = settings.onOwnerDown === 'keep';
    this.#world = world;
    this.#members = Array.from({ length: siteCount }, (_, site) => {
      const order = sitesAsSeenBy(site, siteCount);
      const remotes = order.slice(1);
      return { site, order, remotes, policy: policyOf(namedSite(site), remotes.map(namedSite), settings) };
    });
  }

  /** What a client gets that brings these sites' cookies to the edge of `site`. */
  request(site: number, cookies: number): Answer {
    this.passes = 0;
    return this.#edge(site, { cookies, hop: false }, 0);
  }

  #edge(site: number, request: Request, passes: number): Answer {
    const member = this.#members[site];
    if (member === undefined) throw new Error(`there is no site ${site}`);
    if (passes > LOOP) throw new Error(`the request is sent round in circles, and is at site ${site} again`);
    this.passes = Math.max(this.passes, passes);
    if (site === this.#original) return this.#originalRules(member, request, passes);

    const decision = this.#decide(member, request);
    switch (decision.reason) {
      case 'status':
        throw new Error('the request was not for the status URI');
      case 'refuse':
        return { ...own503(request), isRefusal: true };
      case 'unknown':
        return this.#fallbackRoutes(member, request, passes);
      default:
        return this.#decidedRoutes(member, decision, request, passes);
    }
  }

  #decide({ site, order, policy }: Member, request: Request): Decision {
    let cookies = 0;
    for (let index = 0; index < order.length; index++) {
      if (has(request.cookies, order[index] ?? site)) cookies |= 1 << index;
    }
    return decide(policy, this.#world.sidecar(site), { isStatusUri: false, hasHop: request.hop, cookies });
  }

  /** To the pool of the decision; with the answer the cookies are taken away that the decision names. */
  #decidedRoutes(member: Member, decision: RouteDecision, request: Request, passes: number): Answer {
    const { expire } = decision;
    const answer = this.#decidedPool(member, decision, request, passes);
    // The sidecar knows Envoy's own 503 and a refusal, and takes nothing from a client that nobody served.
    if (expire === 0 || answer.isMadeHere || answer.isRefusal) return answer;
    const expired = member.order.reduce((sites, of, index) => (has(expire, index) ? sites | bit(of) : sites), 0);
    return { ...answer, cookies: answer.cookies & ~expired };
  }

  #decidedPool(member: Member, { pool }: RouteDecision, request: Request, passes: number): Answer {
    const { site, order } = member;
    const target = order[pool] ?? site;
    if (target !== site) return this.#remoteRoute(member, target, request, passes);
    const answer =
      request.hop || this.#isOwnerOrNobody
        ? this.#plainLocalRoute(site, request)
        : this.#localRouteWithRetries(member, request, passes);
    const isCountedAsDown = answer.ownership === 'one owner' && !this.#world.sidecarSees(site, site);
    return isCountedAsDown ? { ...answer, ownership: 'counted as down' } : answer;
  }

  /** No decision: Envoy goes by the hop header and the cookies, the remotes' in the order of the config file. */
  #fallbackRoutes(member: Member, request: Request, passes: number): Answer {
    const owner = request.hop ? undefined : member.remotes.find((remote) => has(request.cookies, remote));
    if (owner !== undefined) return this.#remoteRoute(member, owner, request, passes);
    const answer = this.#plainLocalRoute(member.site, request);
    return answer.servedBy === null ? answer : { ...answer, ownership: 'no opinion' };
  }

  /**
   * The remote pool, and the local pool behind it: where Envoy knows that the remote is down, can't reach it, or is
   * refused there. Further retries would go over the same two again and end no other way.
   */
  #remoteRoute({ site }: Member, remote: number, request: Request, passes: number): Answer {
    if (this.#world.envoySees(site, remote)) {
      const answer = this.#forward(remote, request, passes);
      if (!answer.isRefusal) return answer;
    }
    if (this.#isOwnerOrNobody || !this.#canReachLocalPool(site)) return own503(request);
    return { ...servedBy(site, request), cookies: request.cookies, ownership: 'fallback' };
  }

  /** Adds the hop header. Where nothing answers Envoy may try elsewhere, as after a refusal. */
  #forward(remote: number, request: Request, passes: number): Answer {
    if (this.#world.pool(remote) === 'gone') return { ...own503(request), isRefusal: true };
    const answer = this.#edge(remote, { cookies: request.cookies, hop: true }, passes + 1);
    return answer.isMadeHere ? { ...answer, isMadeHere: false } : answer;
  }

  #plainLocalRoute(site: number, request: Request): Answer {
    if (!this.#canReachLocalPool(site)) return own503(request);
    const answer = servedBy(site, request);
    // Under `keep` another site's session has its server here by a cookie that tells no site.
    const isKept = this.#isKept && request.cookies !== 0 && !has(request.cookies, site);
    return isKept ? { ...answer, cookies: request.cookies } : answer;
  }

  /**
   * Priority groups: where no server of the local pool can be reached the remotes are tried, in their order. Health is
   * not asked: the first cluster that Envoy knows to be down, be it the local one, ends it with a 503.
   */
  #localRouteWithRetries({ site, remotes }: Member, request: Request, passes: number): Answer {
    let answer = this.#plainLocalRoute(site, request);
    if (answer.servedBy !== null || !this.#world.envoySees(site, site)) return answer;
    for (const remote of remotes) {
      if (!this.#world.envoySees(site, remote)) return own503(request);
      answer = this.#forward(remote, request, passes);
      if (!answer.isRefusal) break;
    }
    // The route is sticky, so the answer sets this site's cookie too, with the other site's address in it.
    return { ...answer, cookies: answer.cookies | bit(site), ownership: 'retried elsewhere' };
  }

  #canReachLocalPool(site: number): boolean {
    return this.#world.envoySees(site, site) && this.#world.isUp(site);
  }

  /**
   * The original rules, literally: no hop header added, one that is there passed on and not looked at, no cookie
   * expired, nothing retried. They ask the load balancer that they run in, whose view stands for Envoy's here.
   */
  #originalRules({ site, remotes }: Member, request: Request, passes: number): Answer {
    const isUp = (of: number) => this.#world.envoySees(site, of);
    const owner = remotes.find((remote) => has(request.cookies, remote) && isUp(remote));
    const other = owner ?? (isUp(site) ? undefined : remotes.find(isUp));
    if (other !== undefined && this.#world.pool(other) !== 'gone') return this.#edge(other, request, passes + 1);
    if (other === undefined && this.#canReachLocalPool(site)) {
      return { ...servedBy(site, request), ownership: 'original rules' };
    }
    return { ...own503(request), isRefusal: false };
  }
}

type RouteDecision = Extract<Decision, { readonly pool: number }>;

/** A site and what its config file makes of the others. */
interface Member {
  readonly site: number;
  /** By the index that its own decisions know them by: the site itself, then its remotes. */
  readonly order: readonly number[];
  readonly remotes: readonly number[];
  readonly policy: Policy;
}

/** By the site's local pool, which is sticky: the answer sets its cookie. */
function servedBy(site: number, { cookies }: Request): Answer {
  return {
    servedBy: site,
    cookies: cookies | bit(site),
    ownership: 'one owner',
    isRefusal: false,
    isMadeHere: false,
  };
}

/** To the site that forwarded the request it is a refusal (`local_reply_config`). */
function own503({ cookies, hop }: Request): Answer {
  return { servedBy: null, cookies, ownership: 'nobody', isRefusal: hop, isMadeHere: true };
}

function namedSite(site: number) {
  return { name: `site${site}`, cookie: `COOKIE${site}` };
}

export function bit(site: number): number {
  return 1 << site;
}

export function has(sites: number, site: number): boolean {
  return (sites & bit(site)) !== 0;
}
