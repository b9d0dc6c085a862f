import type { Config } from '../config/config.ts';
import {
  expiredCookie,
  METADATA_NAMESPACE,
  POOL_HEADER,
  REFUSED_HEADER,
  STATUS_CONTENT_TYPE,
  statusBody,
} from '../contract.ts';
import { type Decision, NO_OWNER, ownerName } from '../decision/decide.ts';
import type { Policy } from '../decision/policy.ts';
import type { Counters, DecisionCounter } from '../metrics/counters.ts';

/** What goes back to Envoy for one decision. */
export interface Reply {
  readonly bytes: Buffer;
  /** Envoy asks again when the response comes, and is then told to expire cookies; null: this one reply is all. */
  readonly onResponse: Buffer | null;
  /** Counts the decision; kept here so that no request has to look it up. */
  readonly counter: DecisionCounter;
}

export interface Replies {
  forDecision(decision: Decision): Reply;
  /** "Go on, nothing to change", for each phase that Envoy may be set to send. */
  readonly unchanged: {
    readonly requestBody: Buffer;
    readonly responseHeaders: Buffer;
    readonly responseBody: Buffer;
    readonly requestTrailers: Buffer;
    readonly responseTrailers: Buffer;
  };
}

/** Encodes a `ProcessingResponse` given in proto-loader's plain form. */
export type EncodeResponse = (message: object) => Buffer;

export interface RepliesOptions {
  readonly config: Config;
  readonly policy: Policy;
  readonly encode: EncodeResponse;
  readonly counters: Counters;
}

/**
 * Encodes each reply once, when it is first needed. There are few: a reply depends on the reason, the owner and the
 * pool, and its answer to the response on the set of cookies to expire; the config bounds all of them.
 */
export function createReplies({ config, policy, encode, counters }: RepliesOptions): Replies {
  const expiredCookies = [
    null,
    ...config.remotePools.map((pool) => header('set-cookie', expiredCookie(pool.cookie), true)),
  ];
  // Each is a metric, which is to be there at 0 before it first happens.
  for (let owner = NO_OWNER; owner < policy.sites.length; owner++) counters.addOwner(ownerName(policy, owner));
  const replies = new Map<string, Map<number, Reply>>();
  const unchangedHeaders = encode({ response_headers: {} });

  function build(decision: Decision): Reply {
    const owner = ownerName(policy, decision.owner);
    const counter = counters.decision(decision.reason, owner);
    const dynamic_metadata = metadata(decision.reason, owner);
    switch (decision.reason) {
      case 'status':
        return {
          bytes: encode({ immediate_response: statusResponse(decision.up), dynamic_metadata }),
          onResponse: null,
          counter,
        };
      case 'refuse':
        return {
          bytes: encode({ immediate_response: refusal(config.site), dynamic_metadata }),
          onResponse: null,
          counter,
        };
      case 'unknown': {
        // Should a client's own pool header have come this far, it must not pass for a decision.
        const response = { header_mutation: { remove_headers: [POOL_HEADER] }, clear_route_cache: true };
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
    const set_headers = expiredCookies.filter((_, site) => (sites & (1 << site)) !== 0);
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
    unchanged: {
      requestBody: encode({ request_body: {} }),
      responseHeaders: unchangedHeaders,
      responseBody: encode({ response_body: {} }),
      requestTrailers: encode({ request_trailers: {} }),
      responseTrailers: encode({ response_trailers: {} }),
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

function refusal(site: string): object {
  return {
    status: { code: 503 },
    headers: { set_headers: [header(REFUSED_HEADER, site, false), header('content-type', 'text/plain', false)] },
    body: Buffer.from(`Site ${site} does not serve this request now.\n`),
    details: 'site_persistence_refused',
  };
}

/** `append` is what Envoy's ext_proc honours; without it Set-Cookie would replace every cookie of the application. */
function header(key: string, value: string, append: boolean): object {
  return { header: { key, raw_value: Buffer.from(value) }, ...(append ? { append: { value: true } } : {}) };
}

function metadata(reason: string, owner: string): object {
  const text = (value: string) => ({ stringValue: value });
  const fields = { decision: text(reason), owner: text(owner) };
  return { fields: { [METADATA_NAMESPACE]: { structValue: { fields } } } };
}
