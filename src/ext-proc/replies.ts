import { type Application, type CookieConfig, cookieNamesOf } from '../config/config.ts';
import {
  expiredCookie,
  METADATA_NAMESPACE,
  POOL_HEADER,
  REFUSED_HEADER,
  STATUS_CONTENT_TYPE,
  statusBody,
} from '../contract.ts';
import { type Decision, NO_OWNER, ownerName } from '../decision/decide.ts';
import { LOCAL_ALSO, type Policy } from '../decision/policy.ts';
import type { ApplicationCounters, DecisionCounter } from '../metrics/counters.ts';

/** What goes back to Envoy for one decision. */
export interface Reply {
  readonly bytes: Buffer;
  /** Envoy asks again when the response comes, and is then told to expire cookies; null: this one reply is all. */
  readonly onResponse: Buffer | null;
  /** Counts the decision; kept here so that no request has to look it up. */
  readonly counter: DecisionCounter;
}

/** To the decisions of one application. */
export interface Replies {
  forDecision(decision: Decision): Reply;
}

/** "Go on, nothing to change", for each phase that Envoy may be set to send. */
export interface UnchangedReplies {
  readonly requestHeaders: Buffer;
  readonly requestBody: Buffer;
  readonly responseHeaders: Buffer;
  readonly responseBody: Buffer;
  readonly requestTrailers: Buffer;
  readonly responseTrailers: Buffer;
}

/** Encodes a `ProcessingResponse` given in proto-loader's plain form. */
export type EncodeResponse = (message: object) => Buffer;

/** The same for every application. */
export function encodeUnchanged(encode: EncodeResponse): UnchangedReplies {
  return {
    requestHeaders: encode({ request_headers: { response: { header_mutation: NO_POOL } } }),
    requestBody: encode({ request_body: {} }),
    responseHeaders: encode({ response_headers: {} }),
    responseBody: encode({ response_body: {} }),
    requestTrailers: encode({ request_trailers: {} }),
    responseTrailers: encode({ response_trailers: {} }),
  };
}

/** Should a client's own pool header have come this far, it must not pass for a decision. */
const NO_POOL = { remove_headers: [POOL_HEADER] };

export interface RepliesOptions {
  readonly application: Application;
  readonly policy: Policy;
  readonly encode: EncodeResponse;
  readonly counters: ApplicationCounters;
}

/**
 * Encodes each reply once, when it is first needed. There are few: a reply depends on the reason, the owner and the
 * pool, and its answer to the response on the set of cookies to expire; the config bounds all of them.
 */
export function createReplies({ application, policy, encode, counters }: RepliesOptions): Replies {
  const { localPool, remotePools } = application;
  const expired = (cookie: CookieConfig, names: readonly string[]) =>
    names.map((name) => header('set-cookie', expiredCookie(cookie, name), true));
  /** Of each site all of its names; which of them a request carried is not told apart. */
  const expiredCookies = [
    { bit: LOCAL_ALSO, headers: expired(localPool.cookie, localPool.cookie.also) },
    ...remotePools.map(({ cookie }, index) => ({
      bit: 1 << (index + 1),
      headers: expired(cookie, cookieNamesOf(cookie)),
    })),
  ];
  const ofApplication = application.isForEveryHost ? {} : { application: application.name };
  // Each is a metric, which is to be there at 0 before it first happens.
  for (let owner = NO_OWNER; owner < policy.sites.length; owner++) counters.addOwner(ownerName(policy, owner));
  const replies = new Map<string, Map<number, Reply>>();

  function build(decision: Decision): Reply {
    const owner = ownerName(policy, decision.owner);
    const counter = counters.decision(decision.reason, owner);
    const dynamic_metadata = metadata({ decision: decision.reason, owner, ...ofApplication });
    switch (decision.reason) {
      case 'status':
        return {
          bytes: encode({ immediate_response: statusResponse(decision.up), dynamic_metadata }),
          onResponse: null,
          counter,
        };
      case 'refuse':
        return {
          bytes: encode({ immediate_response: refusal(application), dynamic_metadata }),
          onResponse: null,
          counter,
        };
      case 'unknown': {
        const response = { header_mutation: NO_POOL, clear_route_cache: true };
        return { bytes: encode({ request_headers: { response }, dynamic_metadata }), onResponse: null, counter };
      }
      default: {
        const cluster = policy.sites[decision.pool]?.cluster ?? '';
        const response = {
          header_mutation: { set_headers: [header(POOL_HEADER, cluster, false)] },
          clear_route_cache: true,
        };
        const mode_override = decision.expire === 0 ? undefined : { response_header_mode: 'SEND' };
        return {
          bytes: encode({ request_headers: { response }, dynamic_metadata, mode_override }),
          onResponse: decision.expire === 0 ? null : encodeExpiry(decision.expire),
          counter,
        };
      }
    }
  }

  function encodeExpiry(sites: number): Buffer {
    const set_headers = expiredCookies.flatMap(({ bit, headers }) => ((sites & bit) !== 0 ? headers : []));
    return encode({ response_headers: { response: { header_mutation: { set_headers } } } });
  }

  return {
    forDecision(decision) {
      let ofReason = replies.get(decision.reason);
      if (ofReason === undefined) {
        ofReason = new Map();
        replies.set(decision.reason, ofReason);
      }
      const key = keyOf(decision);
      let reply = ofReason.get(key);
      if (reply === undefined) {
        reply = build(decision);
        ofReason.set(key, reply);
      }
      return reply;
    },
  };
}

/** Distinguishes the replies of one reason. Nine sites at most, so each part fits its place. */
function keyOf(decision: Decision): number {
  const owner = decision.owner - NO_OWNER;
  switch (decision.reason) {
    case 'status':
      return owner * 2 + (decision.up ? 1 : 0);
    case 'refuse':
    case 'unknown':
      return owner;
    default:
      return (decision.expire * 16 + owner) * 16 + decision.pool;
  }
}

function statusResponse(up: boolean): object {
  return {
    status: { code: up ? 200 : 503 },
    headers: {
      set_headers: [header('content-type', STATUS_CONTENT_TYPE, false), header('cache-control', 'no-store', false)],
    },
    body: Buffer.from(statusBody(up)),
    details: up ? 'site_persistence_status_up' : 'site_persistence_status_down',
  };
}

function refusal({ site, refusalStatus }: Application): object {
  return {
    status: { code: refusalStatus },
    headers: { set_headers: [header(REFUSED_HEADER, site, false), header('content-type', 'text/plain', false)] },
    body: Buffer.from(`Site ${site} does not serve this request now.\n`),
    details: 'site_persistence_refused',
  };
}

/** `append` is what Envoy's ext_proc honours; without it Set-Cookie would replace every cookie of the application. */
function header(key: string, value: string, append: boolean): object {
  return { header: { key, raw_value: Buffer.from(value) }, ...(append ? { append: { value: true } } : {}) };
}

function metadata(texts: Readonly<Record<string, string>>): object {
  const fields = Object.fromEntries(Object.entries(texts).map(([key, stringValue]) => [key, { stringValue }]));
  return { fields: { [METADATA_NAMESPACE]: { structValue: { fields } } } };
}
