import type * as schema from './schema.ts';

/** `downstream`: what the client spoke. */
export const LOCAL_PROTOCOLS = ['http1', 'http2', 'downstream'] as const;

/** `auto`: HTTP/2 where the other site speaks it, else HTTP/1.1. */
export const REMOTE_PROTOCOLS = ['auto', 'http1', 'http2'] as const;

/** What becomes of a header whose name has an underscore. */
export const UNDERSCORE_ACTIONS = ['allow', 'drop', 'reject'] as const;

/** What becomes of an escaped slash in a path. */
export const ESCAPED_SLASH_ACTIONS = ['keep', 'reject', 'unescape_and_redirect', 'unescape_and_forward'] as const;

export const ENVOY_VERSIONS = ['1.36', '1.37', '1.38', '1.39', '1.40'] as const;
export type EnvoyVersion = (typeof ENVOY_VERSIONS)[number];

/** The name of the only application where the file names none. */
export const DEFAULT_APPLICATION = 'default';

/** The host of an application that takes what is for no other. */
export const EVERY_HOST = '*';

/**
 * A site's whole configuration: checked, defaults filled in, durations in milliseconds. `schema.ts` has its keys, and
 * docs/configuration.md says what each is for.
 */
export type Config = schema.Config;

/** What one application does not share with the others. */
export type ApplicationConfig = Config['applications'][number];

/** An application with what all of its site share. */
export type Application = Omit<Config, 'applications'> &
  ApplicationConfig & {
    /** It is the only one and takes every host, so that no host has to be looked at. */
    readonly isForEveryHost: boolean;
    readonly isAlone: boolean;
  };

/** The names of the applications, in the order of the file. */
export function namesOf({ applications }: Config): string[] {
  return applications.map(({ name }) => name);
}

/**
 * Whether no host has to be told from another: there is one application only, and it takes every host. Not where Envoy follows the
 * config file: a second application would change the listeners, and connections that are open go by the old ones for a while.
 */
export function isOneForEveryHost(config: Config): boolean {
  return config.envoy.configDir === null && isAlone(config);
}

/** Whether there is one application only, and it takes every host. */
export function isAlone({ applications }: Config): boolean {
  const [first, ...others] = applications;
  return first !== undefined && others.length === 0 && first.hosts.includes(EVERY_HOST);
}

/** Whether the applications may be as in a file that lists none. */
export function isUnlisted(config: Config): boolean {
  const [first] = config.applications;
  return isAlone(config) && first?.name === DEFAULT_APPLICATION && first.hosts.length === 1;
}

/** Each application of the site, in the order of the file. */
export function applicationsOf(config: Config): readonly Application[] {
  const { applications, ...shared } = config;
  const isForEveryHost = isOneForEveryHost(config);
  const alone = isAlone(config);
  return applications.map((application) => ({ ...shared, ...application, isForEveryHost, isAlone: alone }));
}

/** The names of the sites that serve an application, this one first. */
export function sitesOf({ site, remotePools }: Pick<Application, 'site' | 'remotePools'>): string[] {
  return [site, ...remotePools.map((pool) => pool.site)];
}

/** Envoy's cluster that has the health of another site. */
export function healthClusterOf({ cluster, healthCluster }: RemotePoolConfig): string {
  return healthCluster ?? cluster;
}

/** Every name under which a cookie tells its site, that which it is set under first. */
export function cookieNamesOf({ name, also }: CookieConfig): string[] {
  return [name, ...also];
}

export type SocketConfig = Config['socket'];
export type HealthConfig = Config['health'];
export type EnvoyConfig = Config['envoy'];

/** What happens to a session whose owner is down. */
export type OnOwnerDown = ApplicationConfig['onOwnerDown'];

/** Whose session it is when a request carries both the local and a remote site's cookie. */
export type BothCookies = ApplicationConfig['bothCookies'];

export type LocalPoolConfig = ApplicationConfig['localPool'];
export type RemotePoolConfig = ApplicationConfig['remotePools'][number];
export type LocalProtocol = LocalPoolConfig['protocol'];
export type RemoteProtocol = RemotePoolConfig['protocol'];
/** Of any site. */
export type CookieConfig = RemotePoolConfig['cookie'];

/** Of this site. */
export type LocalCookieConfig = LocalPoolConfig['cookie'];
export type HealthCheckConfig = LocalPoolConfig['healthCheck'];
export type RemoteHealthCheckConfig = RemotePoolConfig['healthCheck'];
export type EjectConfig = NonNullable<LocalPoolConfig['eject']>;

/** HTTP statuses, both ends included. */
export type StatusRange = readonly [from: number, to: number];

/** How Envoy speaks TLS to a server. */
export type TlsConfig = NonNullable<LocalPoolConfig['tls']>;

/** TLS of a listener whose clients must have a certificate. */
export type ListenTlsConfig = NonNullable<Config['listenTls']>;

/** TLS of one of Envoy's listeners; null `clientCaFile`: its clients need no certificate. */
export type EdgeTlsConfig = NonNullable<EnvoyConfig['listenTls']>;
