import { BROWSER_HEADERS, browserHeaders } from '../measure.ts';
import { bare, type Patch, type Way, withoutChoice } from './patches.ts';

export interface MeasuredCase {
  readonly name: string;
  readonly label: string;
  readonly patch: Patch;
  /** Null where there is no choice. */
  readonly way: Way | null;
  /** @param own a session of this site */
  readonly headers: (own: string) => Readonly<Record<string, string>>;
  /** How the answers' `x-served-by` begins. */
  readonly servedBy: 'app' | 'west';
  /** The cookie's value is a hash of the server; its baseline is the case of this name, without that. */
  readonly opaqueCookieOver?: string;
  /** How many times the instructions of its baseline a request may take; null: not bounded. */
  readonly bound: number | null;
}

/** Our decision may cost six per cent on top of the proxy without it. */
const BOUND = 1.06;

/** To hide the server in the cookie may cost ten. */
const OPAQUE_BOUND = 1.1;

const OWN: Way = { steady: /^steady_own$/, decided: /^decided_local$/ };
const NEW: Way = { steady: /^steady_new$/, decided: /^decided_local$/ };
/** To the site that owns the session. */
const AWAY: Way = { steady: /^steady_remote_pool$/, decided: /^decided_remote_pool$/ };
/** What another site has forwarded to this one, whose session it is. */
const HERE: Way = { steady: /^steady_forwarded_own$/, decided: /^decided_forwarded$/ };
/** What only the sidecar can tell. */
const ASKED: Way = { steady: /^$/, decided: /^decided_local$/ };

const asRendered: Patch = () => {};
const OTHER = 'DDVHSLLQ=MTAuMC4wLjE6ODA';

/** Requests that come to east. */
export const CASES: readonly MeasuredCase[] = [
  { name: 'bare', label: 'bare proxy', patch: bare, way: null, headers: browserHeaders, servedBy: 'app', bound: null },
  {
    name: 'local',
    label: 'local',
    patch: asRendered,
    way: OWN,
    headers: browserHeaders,
    servedBy: 'app',
    bound: BOUND,
  },
  {
    name: 'new',
    label: 'local, new',
    patch: asRendered,
    way: NEW,
    headers: () => BROWSER_HEADERS,
    servedBy: 'app',
    bound: BOUND,
  },
  {
    name: 'away',
    label: 'forwarded away',
    patch: asRendered,
    way: AWAY,
    headers: () => browserHeaders(OTHER),
    servedBy: 'west',
    bound: BOUND,
  },
  {
    name: 'here',
    label: 'forwarded here',
    patch: asRendered,
    way: HERE,
    headers: (own) => ({ ...browserHeaders(own), 'x-site-hop': 'west' }),
    servedBy: 'app',
    bound: BOUND,
  },
  {
    name: 'opaque',
    label: 'local, opaque cookie',
    patch: asRendered,
    way: OWN,
    headers: browserHeaders,
    servedBy: 'app',
    opaqueCookieOver: 'local',
    bound: OPAQUE_BOUND,
  },
  {
    name: 'opaque-new',
    label: 'local, new, opaque cookie',
    patch: asRendered,
    way: NEW,
    headers: () => BROWSER_HEADERS,
    servedBy: 'app',
    opaqueCookieOver: 'new',
    bound: OPAQUE_BOUND,
  },
  {
    name: 'asked',
    label: 'local, cookie twice',
    patch: asRendered,
    way: ASKED,
    headers: (own) => browserHeaders(`${own}; ${own}`),
    servedBy: 'app',
    bound: null,
  },
];

/** The same proxy and the same requests without our decision, or without what it costs more, for what is bounded by it. */
export function baselineOf(measured: MeasuredCase): MeasuredCase | null {
  const { name, label, patch, way, bound, opaqueCookieOver } = measured;
  if (way === null || bound === null) return null;
  if (opaqueCookieOver !== undefined) return CASES.find((other) => other.name === opaqueCookieOver) ?? null;
  const alone = withoutChoice(way);
  return {
    ...measured,
    name: `${name}-baseline`,
    label: `${label}, baseline`,
    patch(bootstrap) {
      patch(bootstrap);
      alone(bootstrap);
    },
    way: null,
    bound: null,
  };
}
