/** Whether a browser sends a cookie with this Domain to a host: it is that name, or one below it (RFC 6265, 5.1.3). */
export function isWithinDomain(host: string, domain: string): boolean {
  const scope = scopeOf(domain);
  return host === scope || host.endsWith(`.${scope}`);
}

/** A leading dot means nothing, nor do capitals. */
export function scopeOf(domain: string): string {
  return domain.replace(/^\./, '').toLowerCase();
}
