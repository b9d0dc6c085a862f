import type { IncomingMessage } from 'node:http';
import { isIpAddress } from '../config/address.ts';

/** From where a listener can be reached, and whether its clients have seen its certificate. */
export type Reach = 'loopback' | 'network' | 'tls';

/**
 * Why a request is refused that a page of another web site may have made through the operator's browser; null for
 * one that is fine. Such a page can send to loopback, and can have its own name lead there (DNS rebinding), which
 * makes what it sends look like its own; so only addresses and localhost count as names of a loopback listener. Over TLS
 * a browser has found the name in the certificate.
 */
export function whyRefused(request: IncomingMessage, reach: Reach): string | null {
  const { origin, host } = request.headers;
  if (reach === 'loopback' && host !== undefined && !isSafeName(nameOf(host))) {
    return `this listener is on loopback and "${nameOf(host)}" is no name of it: use localhost or the address`;
  }
  const isOwn =
    reach === 'tls' ? origin === `https://${host}` : origin === `http://${host}` && isSafeName(nameOf(host ?? ''));
  if (origin !== undefined && !isOwn) {
    return 'a request of another web site is refused';
  }
  // Browsers say this where no Origin is sent, such as for an image; a link that is followed is fine.
  const from = request.headers['sec-fetch-site'];
  const isForeign = from === 'cross-site' || from === 'same-site';
  if (isForeign && request.headers['sec-fetch-mode'] !== 'navigate') return 'a request of another web site is refused';
  return null;
}

/** The host without its port. */
function nameOf(host: string): string {
  return /^\[?([^/]*?)\]?(:\d+)?$/.exec(host)?.[1] ?? '';
}

function isSafeName(name: string): boolean {
  return name === 'localhost' || isIpAddress(name);
}
