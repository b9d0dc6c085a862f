/**
 * The hosts of several applications, for {@link findByHost}. Each application is known by its place in the list that the
 * table was made of.
 */
export interface HostTable {
  readonly exact: ReadonlyMap<string, number>;
  /** `*.example.com` by what follows the star, the longest first. */
  readonly suffixes: readonly Wildcards[];
  /** `www.*` by what stands before the star, the longest first. */
  readonly prefixes: readonly Wildcards[];
  /** The application for every host; {@link NO_APPLICATION} where there is none. */
  readonly everyHost: number;
}

/** All wildcards of one length. */
interface Wildcards {
  readonly length: number;
  readonly byText: Map<string, number>;
}

export const NO_APPLICATION = -1;

/** @param hostsOfEach in lower case and without a port, no host twice */
export function hostTable(hostsOfEach: readonly (readonly string[])[]): HostTable {
  const exact = new Map<string, number>();
  const suffixes = new Map<number, Wildcards>();
  const prefixes = new Map<number, Wildcards>();
  let everyHost = NO_APPLICATION;
  hostsOfEach.forEach((hosts, application) => {
    for (const host of hosts) {
      if (host === '*') everyHost = application;
      else if (host.startsWith('*')) addWildcard(suffixes, host.slice(1), application);
      else if (host.endsWith('*')) addWildcard(prefixes, host.slice(0, -1), application);
      else exact.set(host, application);
    }
  });
  return { exact, suffixes: longestFirst(suffixes), prefixes: longestFirst(prefixes), everyHost };
}

/** The same of applications, as the config has them. */
export function hostTableOf(applications: readonly { readonly hosts: readonly string[] }[]): HostTable {
  return hostTable(applications.map(({ hosts }) => hosts));
}

function addWildcard(wildcards: Map<number, Wildcards>, text: string, application: number): void {
  const ofLength = wildcards.get(text.length) ?? { length: text.length, byText: new Map<string, number>() };
  ofLength.byText.set(text, application);
  wildcards.set(text.length, ofLength);
}

function longestFirst(wildcards: ReadonlyMap<number, Wildcards>): Wildcards[] {
  return [...wildcards.values()].sort((a, b) => b.length - a.length);
}

/**
 * The application that a Host header or `:authority` is for, as Envoy chooses the virtual host where the route config
 * says `ignore_port_in_host_matching`: an exact name, else the longest suffix, else the longest prefix, else every host.
 * https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-virtualhost
 */
export function findByHost(table: HostTable, authority: string): number {
  const { exact, suffixes, prefixes, everyHost } = table;
  // Most are as they stand in the table.
  const asIs = exact.get(authority);
  if (asIs !== undefined) return asIs;
  // More than ASCII letters may change, which no host of the table has.
  const host = withoutPort(authority).toLowerCase();
  return exact.get(host) ?? findWildcard(suffixes, host, true) ?? findWildcard(prefixes, host, false) ?? everyHost;
}

/** A wildcard stands for one character at least. */
function findWildcard(wildcards: readonly Wildcards[], host: string, isSuffix: boolean): number | undefined {
  for (const { length, byText } of wildcards) {
    if (length >= host.length) continue;
    const found = byText.get(isSuffix ? host.slice(host.length - length) : host.slice(0, length));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Whatever follows the last colon counts as a port, unless it is part of an IPv6 address in brackets. */
function withoutPort(authority: string): string {
  const colon = authority.lastIndexOf(':');
  return colon === -1 || authority.lastIndexOf(']') > colon ? authority : authority.slice(0, colon);
}
