import { findByHost, type HostTable, NO_APPLICATION } from '../config/virtual-hosts.ts';
import { HOP_HEADER, REFUSED_HEADER, SERVED_HEADER, SERVED_HERE } from '../contract.ts';
import type { RequestFacts } from '../decision/decide.ts';
import { LOCAL } from '../decision/policy.ts';
import { carriedSites, LOCAL_TWICE, type RequestMatcher } from './request-matcher.ts';
import { WireReader } from './wire.ts';

/** One message of Envoy's, as far as it matters: which phase it opens, and what that phase needs to be answered. */
export type PhaseMessage =
  | ({
      readonly phase: 'requestHeaders';
      /** Its place in the config; {@link NO_APPLICATION} where the host belongs to none, and the rest says nothing. */
      readonly application: number;
      /** This site's cookie is there more than once: Envoy reads the first, whatever it is. */
      readonly isLocalCookieTwice: boolean;
    } & RequestFacts)
  | { readonly phase: 'responseHeaders'; readonly isUnserved: boolean }
  | { readonly phase: 'requestBody' | 'responseBody' | 'requestTrailers' | 'responseTrailers' }
  /** Not a message of Envoy's. */
  | { readonly phase: 'malformed' };

/** Field numbers of `ProcessingRequest`'s phases, see proto/. */
const FIRST_PHASE = 2;
const REQUEST_HEADERS = 2;
const RESPONSE_HEADERS = 3;
const LAST_PHASE = 7;

const MALFORMED: PhaseMessage = { phase: 'malformed' };
const NOT_OURS: PhaseMessage = {
  phase: 'requestHeaders',
  application: NO_APPLICATION,
  isStatusUri: false,
  hasHop: false,
  cookies: 0,
  isLocalCookieTwice: false,
};
const REQUEST_BODY: PhaseMessage = { phase: 'requestBody' };
const RESPONSE_BODY: PhaseMessage = { phase: 'responseBody' };
const REQUEST_TRAILERS: PhaseMessage = { phase: 'requestTrailers' };
const RESPONSE_TRAILERS: PhaseMessage = { phase: 'responseTrailers' };
const BODIES_AND_TRAILERS = [REQUEST_BODY, RESPONSE_BODY, REQUEST_TRAILERS, RESPONSE_TRAILERS];

/** Envoy sends header names in lower case. */
const AUTHORITY = Buffer.from(':authority');
const PATH = Buffer.from(':path');
const COOKIE = Buffer.from('cookie');
const HOP = Buffer.from(HOP_HEADER);
const STATUS = Buffer.from(':status');
const UPSTREAM_TIME = Buffer.from('x-envoy-upstream-service-time');
const REFUSED = Buffer.from(REFUSED_HEADER);
const SERVED = Buffer.from(SERVED_HEADER);
const HERE = Buffer.from(SERVED_HERE);
const GRPC_STATUS = Buffer.from('grpc-status');
/** The first digits of 4xx and 5xx. */
const ERROR_CLASSES = Buffer.from('45');

/** What tells the applications of a site apart, and how each reads a request. */
export interface ApplicationMatchers {
  /** Null: the only application takes every host, and nothing has to be looked up. */
  readonly hosts: HostTable | null;
  /** In the order of the config. */
  readonly matchers: readonly RequestMatcher[];
}

/**
 * Builds the decoder of Envoy's messages. It reads the few header lines that a decision needs and steps over the rest,
 * and never throws: what cannot be read is `malformed`.
 */
export function createRequestDecoder({ hosts, matchers }: ApplicationMatchers): (bytes: Uint8Array) => PhaseMessage {
  return function decodeRequest(bytes) {
    const reader = new WireReader(bytes);
    const end = bytes.length;
    let message: PhaseMessage = MALFORMED;
    while (reader.nextField(end)) {
      const { field } = reader;
      if (field < FIRST_PHASE || field > LAST_PHASE || !reader.isBytes(field)) continue;
      if (field === REQUEST_HEADERS) message = decodeRequestHeaders(reader, reader.enter());
      else if (field === RESPONSE_HEADERS) message = decodeResponseHeaders(reader, reader.enter());
      else message = BODIES_AND_TRAILERS[field - RESPONSE_HEADERS - 1] ?? MALFORMED;
    }
    return reader.malformed ? MALFORMED : message;
  };

  function applicationOf(reader: WireReader, end: number): number {
    if (hosts === null) return 0;
    // Envoy sends it first.
    const header = new HeaderView(reader);
    while (header.next(end)) {
      if (!header.isNamed(AUTHORITY)) continue;
      return findByHost(hosts, latin1(reader.bytes, header.valueStart, header.valueEnd));
    }
    return NO_APPLICATION;
  }

  function decodeRequestHeaders(reader: WireReader, end: number): PhaseMessage {
    const start = reader.valueStart;
    const application = applicationOf(reader, end);
    const matcher = matchers[application];
    if (matcher === undefined || reader.malformed) {
      reader.seek(end);
      return NOT_OURS;
    }
    reader.seek(start);
    let isStatusUri = false;
    let hasHop = false;
    let cookies = 0;
    let isLocalCookieTwice = false;
    const header = new HeaderView(reader);
    while (header.next(end)) {
      if (header.isNamed(COOKIE)) {
        const found = matcher.cookieSites(reader.bytes, header.valueStart, header.valueEnd);
        isLocalCookieTwice ||= (found & LOCAL_TWICE) !== 0 || (cookies & found & (1 << LOCAL)) !== 0;
        cookies |= found;
      } else if (header.isNamed(PATH)) {
        isStatusUri = matcher.isStatusUri(reader.bytes, header.valueStart, header.valueEnd);
      } else if (header.isNamed(HOP)) hasHop = true;
    }
    return {
      phase: 'requestHeaders',
      application,
      isStatusUri,
      hasHop,
      cookies: carriedSites(cookies),
      isLocalCookieTwice,
    };
  }
}

/** Bytes of a host as text; one that is no ASCII is in no table. */
function latin1(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1');
}

/** The value of a request header, by its name in lower case; null where there is none. Not for the hot path. */
export function readRequestHeader(bytes: Uint8Array, name: string): string | null {
  const reader = new WireReader(bytes);
  const wanted = Buffer.from(name);
  while (reader.nextField(bytes.length)) {
    if (!reader.isBytes(REQUEST_HEADERS)) continue;
    const header = new HeaderView(reader);
    const end = reader.enter();
    while (header.next(end)) {
      if (header.isNamed(wanted)) return Buffer.from(bytes.subarray(header.valueStart, header.valueEnd)).toString();
    }
  }
  return null;
}

/**
 * An answer that served nobody is a refusal of another site, or an error of Envoy's own: its router gives every answer of
 * an upstream the time it took, and one that Envoy makes itself has none. Of a gRPC request such an answer is a 200 with
 * a grpc-status. What another site or the stand-in listener has answered, a refusal or not, is that one's own to set right.
 */
function decodeResponseHeaders(reader: WireReader, end: number): PhaseMessage {
  let isErrorStatus = false;
  let isGrpc = false;
  let hasUpstreamTime = false;
  let isRefusal = false;
  let isServedElsewhere = false;
  const header = new HeaderView(reader);
  while (header.next(end)) {
    if (header.isNamed(STATUS)) isErrorStatus = header.startsWithAny(ERROR_CLASSES);
    else if (header.isNamed(GRPC_STATUS)) isGrpc = true;
    else if (header.isNamed(UPSTREAM_TIME)) hasUpstreamTime = true;
    else if (header.isNamed(REFUSED)) isRefusal = true;
    else if (header.isNamed(SERVED)) isServedElsewhere = !header.hasValue(HERE);
  }
  return {
    phase: 'responseHeaders',
    isUnserved: isRefusal || isServedElsewhere || (!hasUpstreamTime && (isErrorStatus || isGrpc)),
  };
}

/** Walks over the `HeaderValue`s of an `HttpHeaders` message: HttpHeaders.headers → HeaderMap.headers → key and value. */
class HeaderView {
  readonly #reader: WireReader;
  #keyStart = 0;
  #keyEnd = 0;
  valueStart = 0;
  valueEnd = 0;
  /** The end of the HeaderMap being walked; 0 outside of one. */
  #mapEnd = 0;

  constructor(reader: WireReader) {
    this.#reader = reader;
  }

  /** Steps to the next header of the `HttpHeaders` message that ends at `end`. */
  next(end: number): boolean {
    const reader = this.#reader;
    for (;;) {
      while (this.#mapEnd !== 0 && reader.nextField(this.#mapEnd)) {
        if (reader.isBytes(1)) {
          this.#read(reader.enter());
          return !reader.malformed;
        }
      }
      this.#mapEnd = 0;
      if (!reader.nextField(end)) return false;
      if (reader.isBytes(1)) this.#mapEnd = reader.enter();
    }
  }

  isNamed(name: Uint8Array): boolean {
    return this.#equals(this.#keyStart, this.#keyEnd, name);
  }

  hasValue(value: Uint8Array): boolean {
    return this.#equals(this.valueStart, this.valueEnd, value);
  }

  /** Whether the value begins with one of these bytes. */
  startsWithAny(bytes: Uint8Array): boolean {
    return this.valueEnd > this.valueStart && bytes.includes(this.#reader.bytes[this.valueStart] ?? 0);
  }

  /** Envoy fills `raw_value`; other clients may fill `value`. */
  #read(end: number): void {
    const reader = this.#reader;
    this.#keyStart = this.#keyEnd = this.valueStart = this.valueEnd = 0;
    let rawStart = 0;
    let rawEnd = 0;
    while (reader.nextField(end)) {
      if (reader.isBytes(1)) {
        this.#keyStart = reader.valueStart;
        this.#keyEnd = reader.valueEnd;
      } else if (reader.isBytes(2)) {
        this.valueStart = reader.valueStart;
        this.valueEnd = reader.valueEnd;
      } else if (reader.isBytes(3)) {
        rawStart = reader.valueStart;
        rawEnd = reader.valueEnd;
      }
    }
    if (rawEnd > rawStart) {
      this.valueStart = rawStart;
      this.valueEnd = rawEnd;
    }
  }

  #equals(start: number, end: number, expected: Uint8Array): boolean {
    if (end - start !== expected.length) return false;
    const { bytes } = this.#reader;
    for (let index = 0; index < expected.length; index++) {
      if (bytes[start + index] !== expected[index]) return false;
    }
    return true;
  }
}
