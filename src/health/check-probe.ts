import { parseAddress, type TcpAddress } from '../config/address.ts';
import {
  type Application,
  applicationsOf,
  type Config,
  healthClusterOf,
  type StatusRange,
  type TlsConfig,
} from '../config/config.ts';
import { printable } from '../config/config-error.ts';
import { formatStatusRanges } from '../config/status-ranges.ts';
import { HOP_HEADER } from '../contract.ts';
import { healthCheckHost } from '../envoy-config/health-check.ts';
import { remoteProtocol } from '../envoy-config/protocols.ts';
import { askByHttp1, askByHttp2, tryConnection } from './ask-server.ts';

/** The health check of a pool's servers, as Envoy does it with the rendered config. */
interface Check {
  /** Null: a TCP connection is enough. */
  readonly path: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly expect: readonly StatusRange[];
  readonly timeoutMs: number;
  readonly tls: TlsConfig | null;
  readonly isHttp2: boolean;
}

export interface CheckResult {
  readonly succeeds: boolean;
  /** Such as `connection refused`, or `answered 404, expected 200-399`. */
  readonly text: string;
}

/**
 * Does the health check of a server once more, to say why it fails: Envoy's admin interface only says that it does.
 * @param address as Envoy shows it: `host:port`
 * @returns null where the check of that pool is not known
 */
export async function repeatCheck(
  config: Config,
  cluster: string,
  address: string,
  signal: AbortSignal,
): Promise<CheckResult | null> {
  const check = applicationsOf(config)
    .map((application) => checkOf(application, cluster))
    .find((found) => found !== null);
  const target = tcpAddressOf(address);
  if (check === undefined || target === null) return null;
  try {
    if (check.path === null) {
      await tryConnection(target, check, signal);
      return { succeeds: true, text: check.tls === null ? 'it connects' : 'it connects over TLS' };
    }
    const ask = check.isHttp2 ? askByHttp2 : askByHttp1;
    const status = await ask(target, { method: 'GET', ...check, path: check.path }, signal);
    return describeStatus(status, check.expect);
  } catch (error) {
    return { succeeds: false, text: reasonOf(error) };
  }
}

function checkOf(application: Application, cluster: string): Check | null {
  const { localPool, remotePools } = application;
  if (cluster === localPool.cluster) {
    const { path, host, expect, timeoutMs } = localPool.healthCheck;
    return { path, headers: { host }, expect, timeoutMs, tls: localPool.tls, isHttp2: localPool.protocol === 'http2' };
  }
  const pool = remotePools.find((each) => healthClusterOf(each) === cluster);
  if (pool === undefined) return null;
  return {
    path: application.statusUri,
    headers: { host: healthCheckHost(application, pool), [HOP_HEADER]: application.site },
    expect: [[200, 200]],
    timeoutMs: pool.healthCheck.timeoutMs,
    tls: pool.tls,
    isHttp2: remoteProtocol(application, pool) === 'http2',
  };
}

/** As Envoy shows it; null where that is no address that can be connected to. */
export function tcpAddressOf(address: string): TcpAddress | null {
  try {
    const parsed = parseAddress(address);
    return parsed.kind === 'tcp' ? parsed : null;
  } catch {
    return null;
  }
}

const MAX_REASON_LENGTH = 200;

function describeStatus(status: number, expect: readonly StatusRange[]): CheckResult {
  const succeeds = expect.some(([from, to]) => status >= from && status <= to);
  return { succeeds, text: `answered ${status}${succeeds ? '' : `, expected ${formatStatusRanges(expect)}`}` };
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection closed without an answer',
  EPIPE: 'connection closed without an answer',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
  ETIMEDOUT: 'connection timed out',
};

/** `802CA7B4…:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../deps/…`: what a person reads. */
const OPENSSL_TEXT = /\berror:[0-9A-F]+:[^:]*:[^:]*:([^:]+)/;

/** What a peer may have put into an error, such as every name in its certificate, on one line. */
function shortText({ message }: Error): string {
  const text = OPENSSL_TEXT.exec(message)?.[1] ?? message;
  return printable(text.split('\n', 1)[0] ?? '').slice(0, MAX_REASON_LENGTH);
}

export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? String(error.code) : '';
  const known = REASONS[code];
  if (known !== undefined) return known;
  // A stream fails before its session does, whose error it carries.
  if (code === 'ERR_HTTP2_STREAM_CANCEL' && error.cause !== undefined) return reasonOf(error.cause);
  if (code.startsWith('ERR_HTTP2_')) return `its answer is not HTTP/2 (${shortText(error)})`;
  if (code.startsWith('HPE_')) return `its answer is not HTTP/1.1 (${error.message})`;
  if (/CERT|TLS|SSL|EPROTO|ISSUER|SIGNATURE|SIGNED/.test(code)) return `TLS: ${shortText(error)}`;
  return shortText(error);
}
