import type { CookieConfig } from '../config/config.ts';

/**
 * The Set-Cookie that makes a browser forget a cookie: it must repeat the Path and Domain it was set with, and Secure,
 * without which browsers do not let a Secure cookie be replaced.
 */
export function expiredCookie(cookie: CookieConfig): string {
  const attributes = [`${cookie.name}=`, `Path=${cookie.path}`];
  if (cookie.domain !== null) attributes.push(`Domain=${cookie.domain}`);
  // Expires is for clients that know no Max-Age.
  attributes.push('Max-Age=0', 'Expires=Thu, 01 Jan 1970 00:00:00 GMT', 'HttpOnly');
  if (cookie.secure) attributes.push('Secure');
  if (cookie.sameSite !== null) attributes.push(`SameSite=${cookie.sameSite}`);
  return attributes.join('; ');
}
