import { type Application, applicationsOf, type Config } from '../config/config.ts';
import { askByHttp1, type Question, speaksHttp2 } from '../health/ask-server.ts';
import { reasonOf, tcpAddressOf } from '../health/check-probe.ts';
import type { EnvoySnapshot } from './envoy-snapshot.ts';
import { INTERNAL_UPSTREAM, RAW_BUFFER, UPSTREAM_TLS } from './extension-types.ts';
import { at, listAt, typeOf } from './json.ts';

/** What a server speaks, as far as it can be found out from here. */
export interface Spoken {
  /** The local pool that it is of. */
  readonly cluster: string;
  readonly address: string;
  readonly http1: boolean;
  readonly http2: boolean;
  /** It was asked over TLS, as Envoy speaks to it. */
  readonly isOverTls: boolean;
  /** Something answered that is neither. */
  readonly isOther: boolean;
  /** Why it answers no HTTP/1.1; empty where it does. */
  readonly why: string;
}

/** Of a large pool a few tell enough: they run the same program. */
const MAX_ASKED = 3;

const TIMEOUT_MS = 2_000;

/**
 * Asks servers of each local pool in each protocol, over TLS where Envoy does; that changes nothing there. None are asked to
 * whom Envoy speaks in a way that can't be done here, such as with the PROXY protocol.
 */
export async function askSpoken(config: Config, snapshot: EnvoySnapshot, signal: AbortSignal): Promise<Spoken[]> {
  const answers = applicationsOf(config).map((application) => askLocalPool(application, snapshot, signal));
  return (await Promise.all(answers)).flat();
}

async function askLocalPool(
  { localPool }: Application,
  snapshot: EnvoySnapshot,
  signal: AbortSignal,
): Promise<Spoken[]> {
  const { cluster, healthCheck } = localPool;
  const transport = transportOf(snapshot.clusters.get(cluster));
  if (transport === 'other' || (transport === 'tls' && localPool.tls === null)) return [];
  const tls = transport === 'tls' ? localPool.tls : null;
  const hosts = snapshot.hosts?.get(cluster) ?? [];
  const question: Question = {
    method: 'HEAD',
    path: healthCheck.path ?? '/',
    headers: { host: healthCheck.host },
    timeoutMs: TIMEOUT_MS,
    tls,
  };
  const asked = hosts.filter(({ up }) => up).slice(0, MAX_ASKED);
  const answers = await Promise.all(
    asked.map(async ({ address }): Promise<Spoken | null> => {
      const target = tcpAddressOf(address);
      if (target === null) return null;
      const [http1, http2] = await Promise.allSettled([
        askByHttp1(target, question, signal),
        speaksHttp2(target, question, signal),
      ]);
      const isOverTls = tls !== null;
      const spoken = {
        ...{ cluster, address, isOverTls },
        ...{ http1: http1.status === 'fulfilled', http2: http2.status === 'fulfilled' },
      };
      if (http1.status === 'fulfilled') return { ...spoken, isOther: false, why: '' };
      const isOther = !spoken.http2 && isAnswer(http1.reason);
      return { ...spoken, isOther, why: reasonOf(http1.reason) };
    }),
  );
  return answers.filter((answer) => answer !== null);
}

/** Bytes that are not HTTP/1.1, as TLS servers have for clear text. One that only closes may not take this peer. */
function isAnswer(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('HPE_');
}

function transportOf(cluster: unknown): 'clear text' | 'tls' | 'other' {
  if (listAt(cluster, 'transport_socket_matches').length > 0) return 'other';
  const outer = at(cluster, 'transport_socket', 'typed_config');
  const socket = typeOf(outer) === INTERNAL_UPSTREAM ? at(outer, 'transport_socket', 'typed_config') : outer;
  if (socket === undefined || typeOf(socket) === RAW_BUFFER) return 'clear text';
  return typeOf(socket) === UPSTREAM_TLS ? 'tls' : 'other';
}
