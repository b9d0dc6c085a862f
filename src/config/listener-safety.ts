import { type Address, isLoopback } from './address.ts';
import type { Config, ListenTlsConfig } from './config.ts';

/** The listeners, by their key in the config file. */
export type ListenerKey = 'listen' | 'ops_listen' | 'metrics_listen';

export interface Listener<Tls extends object = ListenTlsConfig> {
  readonly key: ListenerKey;
  readonly address: Address;
  readonly tls: Tls | null;
}

/** What others can do with a listener that they reach. */
const HARM: Readonly<Record<ListenerKey, string>> = {
  listen: 'every client that reaches it can keep it busy, and the cookies of each request are sent in clear text',
  ops_listen: 'every client that reaches it can drain this site',
  metrics_listen:
    'every client that reaches it learns the names of the applications, sites and pools, and their traffic',
};

export function listenersOf(config: Config): readonly Listener[] {
  return [
    { key: 'listen', address: config.listen, tls: config.listenTls },
    { key: 'ops_listen', address: config.opsListen, tls: config.opsListenTls },
    ...(config.metricsListen === null
      ? []
      : [{ key: 'metrics_listen' as const, address: config.metricsListen, tls: config.metricsListenTls }]),
  ];
}

/**
 * Why a listener may not be as it is, and what to do about it, to be read after its address; null where it is fine.
 * @param insecure whether one that others can reach may be without TLS
 */
export function whyUnsafe(listener: Listener<object>, insecure: boolean): string | null {
  const { key, address, tls } = listener;
  if (address.kind === 'unix' && tls !== null) {
    return `is a Unix socket, which has no TLS: remove ${key}_tls, or write host:port`;
  }
  const why = whyExposed(listener);
  if (why === null || insecure) return null;
  return `${why}; write 127.0.0.1 or a Unix socket, set ${key}_tls, or say insecure: true where others can't reach it`;
}

/** What is to be feared of a listener that others than this machine reach without a certificate; null where it is none. */
export function whyExposed({ key, address, tls }: Listener<object>): string | null {
  if (address.kind === 'unix' || isLoopback(address.host) || tls !== null) return null;
  return `is not loopback and has no TLS: ${HARM[key]}`;
}
