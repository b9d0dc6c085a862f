import type { Config } from '../config/config.ts';
import type { Host } from '../envoy-admin/admin-client.ts';
import { askByHttp1, type Question, speaksHttp2 } from '../health/ask-server.ts';
import { reasonOf, tcpAddressOf } from '../health/check-probe.ts';

/** What a server speaks, as far as it can be found out from here. */
export interface Spoken {
  readonly address: string;
  readonly http1: boolean;
  readonly http2: boolean;
  /** Something answered that is neither. */
  readonly isOther: boolean;
  /** Why it answers no HTTP/1.1; empty where it does. */
  readonly why: string;
}

/** Of a large pool a few tell enough: they run the same program. */
const MAX_ASKED = 3;

const TIMEOUT_MS = 2_000;

/** Asks servers of the local pool in each protocol, which changes nothing there. */
export async function askSpoken(config: Config, hosts: readonly Host[], signal: AbortSignal): Promise<Spoken[]> {
  const { healthCheck, tls } = config.localPool;
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
      const spoken = { address, http1: http1.status === 'fulfilled', http2: http2.status === 'fulfilled' };
      if (http1.status === 'fulfilled') return { ...spoken, isOther: false, why: '' };
      const isOther = !spoken.http2 && isAnswer(http1.reason);
      return { ...spoken, isOther, why: reasonOf(http1.reason) };
    }),
  );
  return answers.filter((answer) => answer !== null);
}

/** What is not HTTP/1.1, or an end: TLS servers have either for clear text. */
function isAnswer(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^(HPE_|ECONNRESET|EPROTO)/.test(String(error.code));
}
