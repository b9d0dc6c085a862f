import type { IncomingMessage } from 'node:http';
import { isIpAddress } from '../config/address.ts';

/** From where a listener can be reached, and whether its clients have seen its certificate. */
export type Reach = 'loopback' | 'network' | 'tls';

const FOREIGN = 'a request of another web site is refused';
const NOT_OF_THE_PAGE = `${FOREIGN}: a browser sends Sec-Fetch-Site: same-origin with what this page asks`;

/** What `Sec-Fetch-Site` says of a request that no other web site has made: the page's own, and an address typed in. */
const OWN_SITES = [undefined, 'same-origin', 'none'];

/**
 * Why a request is refused that a page of another web site may have made through the operator's browser; null for
 * one that is fine. Such a page can send to loopback, and can have its own name lead there (DNS rebinding), which
 * makes what it sends look like its own; so only addresses and localhost count as names of a loopback listener. Over TLS
 * a browser has found the name in the certificate. Of what comes from another web site only a link that is followed is
 * fine; a form that is sent is not. What changes something comes from no browser at all, or from the status page.
 */
export function whyRefused(request: IncomingMessage, reach: Reach): string | null {
  const { host, origin, referer } = request.headers;
  const isReading = request.method === 'GET' || request.method === 'HEAD';
  // Of which Node gives the first.
  if ((request.headersDistinct.host?.length ?? 0) > 1) return 'a request has one Host header';
  if (reach === 'loopback' && (host !== undefined || !isReading)) {
    const name = nameOf(host ?? '');
    if (!isSafeName(name)) {
      return `this listener is on loopback and "${name}" is no name of it: use localhost or the address`;
    }
  }
  const isOwn = (url: string) => isOwnOrigin(url, host, reach);
  if (origin !== undefined && !isOwn(origin)) return FOREIGN;
  // Said where there is no Origin, by browsers that do not send Sec-Fetch-Site.
  if (!isReading && referer !== undefined && !isOwn(originOf(referer))) return FOREIGN;
  const from = request.headers['sec-fetch-site'];
  if (!isReading) return isOfBrowser(request) && from !== 'same-origin' ? NOT_OF_THE_PAGE : null;
  if (OWN_SITES.some((own) => own === from) || isLink(request)) return null;
  return FOREIGN;
}

/** Node's own fetch says `Sec-Fetch-Mode: cors` and no more; what a browser sends in that mode has an Origin, which is looked at. */
function isOfBrowser({ headers }: IncomingMessage): boolean {
  return Object.entries(headers).some(
    ([name, value]) => name.startsWith('sec-fetch-') && !(name === 'sec-fetch-mode' && value === 'cors'),
  );
}

function isOwnOrigin(origin: string, host: string | undefined, reach: Reach): boolean {
  if (host === undefined) return false;
  return reach === 'tls' ? origin === `https://${host}` : origin === `http://${host}` && isSafeName(nameOf(host));
}

/** Whether a browser shows the answer as a page of its own, so that the page with the link can't read it. */
function isLink({ headers }: IncomingMessage): boolean {
  const destination = headers['sec-fetch-dest'];
  return headers['sec-fetch-mode'] === 'navigate' && (destination === undefined || destination === 'document');
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : '';
}

/** The host without its port. */
function nameOf(host: string): string {
  return /^\[?([^/]*?)\]?(:\d+)?$/.exec(host)?.[1] ?? '';
}

function isSafeName(name: string): boolean {
  return name === 'localhost' || isIpAddress(name);
}
