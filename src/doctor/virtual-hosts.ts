import type { Application, Config } from '../config/config.ts';
import { findByHost, type HostTable, hostTable, hostTableOf, NO_APPLICATION } from '../config/virtual-hosts.ts';
import type { ConnectionManager } from './connection-managers.ts';
import { listAt, textAt } from './json.ts';

export interface VirtualHost {
  readonly name: string;
  readonly config: unknown;
  readonly routeConfig: unknown;
}

/** Whose virtual hosts those of a route config are: by Envoy's choice, and by the sidecar's. */
export interface HostMap {
  readonly all: readonly VirtualHost[];
  /** The virtual host that takes requests for a host of an application; undefined where there is none. */
  taking(host: string): VirtualHost | undefined;
  /** Whether the sidecar takes some request there for one of this application. */
  isOf(host: VirtualHost, application: Application): boolean;
  /** Whether the sidecar takes some request there for one of its site's. */
  isDecided(host: VirtualHost): boolean;
}

export function mapHosts(routeConfig: unknown, { applications }: Config): HostMap {
  const all = listAt(routeConfig, 'virtual_hosts').map(
    (config): VirtualHost => ({ name: textAt(config, 'name') ?? '(no name)', config, routeConfig }),
  );
  const ofEnvoy = hostTable(all.map(domainsOf));
  const ofSidecar = hostTableOf(applications);
  const taking = (host: string) => all[findIn(ofEnvoy, host)];
  const prefixes = applications.flatMap(({ hosts }) => hosts.filter((host) => host.length > 1 && host.endsWith('*')));
  // Where wildcards of both kinds overlap Envoy goes by the end of a host, which only the other virtual host may know.
  const overlapping = (domain: string) =>
    domain.startsWith('*') ? prefixes.map((prefix) => `${prefix.slice(0, -1)}${SOME_HOST}${domain.slice(1)}`) : [];
  const decided = new Map(
    all.map((host) => [
      host,
      domainsOf(host)
        .flatMap((domain) => [domain, ...overlapping(domain).filter((overlap) => taking(overlap) === host)])
        .map((domain) => findIn(ofSidecar, domain)),
    ]),
  );
  const decidedFor = (host: VirtualHost) => decided.get(host) ?? [];
  return {
    all,
    taking,
    isOf: (host, { name, hosts }) =>
      decidedFor(host).some((index) => applications[index]?.name === name) || hosts.some((own) => taking(own) === host),
    isDecided: (host) => decidedFor(host).some((index) => index !== NO_APPLICATION),
  };
}

export function domainsOf({ config }: VirtualHost): string[] {
  return listAt(config, 'domains').flatMap((domain) => (typeof domain === 'string' ? domain.toLowerCase() : []));
}

/** As a fix names it. */
export function routeConfigOf({ routeConfig, label }: ConnectionManager): string {
  const name = textAt(routeConfig, 'name') ?? '';
  return name === '' ? `the route_config of ${label}` : `route config ${name}`;
}

/** What a wildcard stands for, and hardly anybody has named. */
const SOME_HOST = 'some-host';

/** Of a wildcard: a host that it stands for. */
function findIn(table: HostTable, host: string): number {
  return findByHost(table, host.replace('*', SOME_HOST));
}
