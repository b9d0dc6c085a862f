import { LOCAL, LOCAL_ALSO, type Policy } from '../decision/policy.ts';

/**
 * Recognises a request's path and cookies in the raw bytes that Envoy sends. Nothing is decoded to text and nothing
 * allocated for the common request: a header block can hold kilobytes of cookies that mean nothing here.
 */
export interface RequestMatcher {
  /** Whether the path, percent-decoded and without its query, is the status URI. */
  isStatusUri(bytes: Uint8Array, start: number, end: number): boolean;
  /**
   * The sites whose cookie stands in this Cookie header, as a set of bits, with {@link LOCAL_TWICE} beside them. The local
   * site's bit is for the name that the cookie is set under, {@link LOCAL_ALSO} alone for its others.
   */
  cookieSites(bytes: Uint8Array, start: number, end: number): number;
}

/** Beside the bits of the sites: the local site's cookie stands there more than once under the name that it is set under. */
export const LOCAL_TWICE = 1 << 30;

/** The sites that all Cookie headers of a request name, of what {@link RequestMatcher.cookieSites} found in each. */
export function carriedSites(found: number): number {
  const sites = found & ~LOCAL_TWICE;
  const isUnderOthersOnly = (sites & LOCAL_ALSO) !== 0 && (sites & (1 << LOCAL)) === 0;
  return isUnderOthersOnly ? (sites & ~LOCAL_ALSO) | (1 << LOCAL) : sites;
}

const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const SPACE = 0x20;
const TAB = 0x09;
const PERCENT = 0x25;
const QUESTION_MARK = 0x3f;
const HASH = 0x23;

export function createRequestMatcher(policy: Policy, statusUri: string): RequestMatcher {
  const statusBytes = Buffer.from(statusUri, 'latin1');
  const cookies = policy.sites.flatMap(({ cookieNames }, site) =>
    cookieNames.map((name, index) => ({ name, bit: site === LOCAL && index > 0 ? LOCAL_ALSO : 1 << site })),
  );
  const cookieNames = cookies.map(({ name }) => Buffer.from(name, 'latin1'));
  const bits = cookies.map(({ bit }) => bit);

  function bitOfCookie(bytes: Uint8Array, start: number, end: number): number {
    for (let index = 0; index < cookieNames.length; index++) {
      const name = cookieNames[index];
      if (name !== undefined && name.length === end - start && equals(bytes, start, name)) return bits[index] ?? 0;
    }
    return 0;
  }

  return {
    isStatusUri(bytes, start, end) {
      let at = start;
      for (let expected = 0; expected < statusBytes.length; expected++) {
        if (at >= end) return false;
        let byte = bytes[at] ?? 0;
        if (byte === PERCENT) {
          byte = percentDecoded(bytes, at, end);
          at += 2;
        } else if (byte === QUESTION_MARK || byte === HASH) {
          return false;
        }
        if (byte !== statusBytes[expected]) return false;
        at++;
      }
      return at >= end || bytes[at] === QUESTION_MARK || bytes[at] === HASH;
    },

    // Split as Envoy and RFC 6265 do it, at every semicolon: a quoted value cannot hold one. Only the whole name
    // counts, and only with an equals sign after it.
    cookieSites(bytes, start, end) {
      let sites = 0;
      let at = start;
      while (at < end) {
        while (at < end && (bytes[at] === SPACE || bytes[at] === TAB)) at++;
        const nameStart = at;
        while (at < end && bytes[at] !== EQUALS && bytes[at] !== SEMICOLON) at++;
        if (at < end && bytes[at] === EQUALS) {
          const bit = bitOfCookie(bytes, nameStart, at);
          sites |= bit === 1 << LOCAL && (sites & bit) !== 0 ? LOCAL_TWICE : bit;
          while (at < end && bytes[at] !== SEMICOLON) at++;
        }
        at++;
      }
      return sites;
    },
  };
}

function equals(bytes: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index++) {
    if (bytes[start + index] !== name[index]) return false;
  }
  return true;
}

/** The byte that the escape at `at` stands for, or -1 where it is not one. */
function percentDecoded(bytes: Uint8Array, at: number, end: number): number {
  if (at + 2 >= end) return -1;
  const high = hexDigit(bytes[at + 1] ?? 0);
  const low = hexDigit(bytes[at + 2] ?? 0);
  return high === -1 || low === -1 ? -1 : high * 16 + low;
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}
