import type { IncomingHttpHeaders } from 'node:http';
import { type Config, namesOf } from '../config/config.ts';
import type { Drain } from '../envoy-runtime/drain.ts';
import { applicationsWith, type Hold } from '../envoy-runtime/hold.ts';
import { checkReason, parseOrderMs } from '../envoy-runtime/orders.ts';
import { whyNotDrain } from './drain-guard.ts';
import { whyNotHold } from './hold-guard.ts';
import type { Question } from './http-listener.ts';
import { hasBody } from './request-queue.ts';
import type { SiteStateReport } from './state.ts';

export interface OrderParts {
  /** The one in force. */
  readonly config: () => Config;
  readonly drain: Drain;
  readonly hold: Hold;
  readonly state: () => SiteStateReport;
}

/** What became of an order. 400: it is none. 409: it would leave clients without a site. */
export type OrderOutcome = { readonly status: 200 } | { readonly status: 400 | 409; readonly why: string };

const GIVEN: OrderOutcome = { status: 200 };

/** What may stand in the query of an order. */
const PARAMETERS: ReadonlyMap<string, readonly string[]> = new Map([
  ['POST /drain', ['application', 'for', 'reason', 'evict', 'force']],
  ['POST /undrain', ['application']],
  ['POST /hold', ['site', 'application', 'for', 'reason', 'force']],
  ['POST /release', ['site', 'application']],
]);

const FLAGS = ['evict', 'force'];

/** Without what is misspelled or in the wrong place an order would be one for everything; null: there is nothing such. */
function whyMisunderstood(
  query: URLSearchParams,
  known: readonly string[],
  headers: IncomingHttpHeaders,
): string | null {
  if (hasBody(headers)) return 'an order has no body: write its parameters into the query';
  for (const key of new Set(query.keys())) {
    const values = query.getAll(key);
    if (!known.includes(key)) return `${key.slice(0, 63)}: there is no such parameter; there are ${known.join(', ')}`;
    if (key !== 'application' && values.length > 1) return `${key}: is given twice`;
    const isFlag = FLAGS.includes(key) && values[0] !== '' && values[0] !== 'true';
    if (isFlag) return `${key}=${values[0]?.slice(0, 63)}: write ${key}, or leave it out`;
  }
  return null;
}

/** Begins or ends a drain or a hold, where that is what is asked; null: it is not. */
export function giveOrder(
  parts: OrderParts,
  question: Pick<Question, 'route' | 'query' | 'request'>,
): OrderOutcome | null {
  const { route, query, request } = question;
  const known = PARAMETERS.get(route);
  if (known === undefined) return null;
  const wrong = whyMisunderstood(query, known, request.headers);
  if (wrong !== null) return bad(new Error(wrong));
  switch (route) {
    case 'POST /drain':
      return startDrain(parts, query);
    case 'POST /undrain': {
      const names = readApplications(query, namesOf(parts.config()));
      if (names instanceof Error) return bad(names);
      parts.drain.end(names, 'undrain was asked for');
      return GIVEN;
    }
    case 'POST /hold':
      return startHold(parts, query);
    case 'POST /release': {
      const asked = readSite(query, parts.config());
      if (asked instanceof Error) return bad(asked);
      parts.hold.end(asked.site, asked.names, 'release was asked for');
      return GIVEN;
    }
    default:
      return null;
  }
}

function startDrain({ config, drain, state }: OrderParts, query: URLSearchParams): OrderOutcome {
  const names = readApplications(query, namesOf(config()));
  if (names instanceof Error) return bad(names);
  const given = readGiven(query);
  if (given instanceof Error) return bad(given);
  const { force, forMs, reason } = given;
  const evict = query.has('evict');
  const why = force ? null : whyNotDrain(config(), state(), { names, evict });
  if (why !== null) return { status: 409, why };
  drain.start(names, { forMs, evict, reason });
  return GIVEN;
}

function startHold({ config, hold, state }: OrderParts, query: URLSearchParams): OrderOutcome {
  const asked = readSite(query, config());
  if (asked instanceof Error) return bad(asked);
  const given = readGiven(query);
  if (given instanceof Error) return bad(given);
  const { force, forMs, reason } = given;
  if (reason === '') return bad(new Error('reason: say why the site is held: reason=TEXT'));
  const { site, names } = asked;
  const why = force ? null : whyNotHold(config(), state(), { site, names: names ?? applicationsWith(site, config()) });
  if (why !== null) return { status: 409, why };
  hold.start(site, names, { forMs, reason });
  return GIVEN;
}

function bad({ message }: Error): OrderOutcome {
  return { status: 400, why: message };
}

function readGiven(query: URLSearchParams) {
  const forMs = read(query, 'for', parseOrderMs);
  if (forMs instanceof Error) return forMs;
  const reason = read(query, 'reason', checkReason);
  if (reason instanceof Error) return reason;
  return { forMs, reason: reason ?? '', force: query.has('force') };
}

/** Null where the query has no such key. */
function read<T>(query: URLSearchParams, key: string, parse: (text: string) => T): T | null | Error {
  const text = query.get(key);
  if (text === null) return null;
  try {
    return parse(text);
  } catch (error) {
    return new Error(`${key}=${text}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Those that are named; null: all. */
export function readApplications(query: URLSearchParams, all: readonly string[]): readonly string[] | null | Error {
  const named = query.getAll('application');
  const unknown = named.find((name) => !all.includes(name));
  if (unknown !== undefined) {
    return new Error(`application=${unknown.slice(0, 63)}: there is no such application; there are ${all.join(', ')}`);
  }
  return named.length === 0 ? null : named;
}

/** Another site, and those of its applications that are named; null: all. */
function readSite(query: URLSearchParams, config: Config) {
  const site = query.get('site');
  if (site === null) return new Error('site: say which one: site=NAME');
  if (site === config.site) return new Error(`site=${site}: is this site: drain and undrain are for it`);
  const sites = new Set(config.applications.flatMap(({ remotePools }) => remotePools.map((pool) => pool.site)));
  if (!sites.has(site)) {
    return new Error(
      `site=${site.slice(0, 63)}: there is no such site in remote_pools; there are ${[...sites].join(', ')}`,
    );
  }
  const names = readApplications(query, namesOf(config));
  if (names instanceof Error) return names;
  const all = applicationsWith(site, config);
  const without = names?.find((name) => !all.includes(name));
  if (without === undefined) return { site, names };
  return new Error(
    `application=${without}: has no remote pool of ${site}; ${all.join(', ')} ${all.length > 1 ? 'have' : 'has'}`,
  );
}
