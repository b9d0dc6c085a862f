import type { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { formatAddress, type TcpAddress } from '../config/address.ts';
import { applicationsOf, type Config } from '../config/config.ts';
import { whyKeyUsageIsRefused } from '../listener/key-usage.ts';

/** A server to which Envoy speaks TLS, and whose certificate was seen. */
export interface PeerCertificate {
  readonly address: string;
  readonly site: string;
  readonly sni: string;
  /** Why Envoy 1.38 and later refuse its certificate, though others take it; null: they do not. */
  readonly why: string | null;
}

const TIMEOUT_MS = 2_000;

/** Of a pool's servers the first tells enough: they are issued alike. */
export async function askCertificates(config: Config): Promise<PeerCertificate[]> {
  const pools = applicationsOf(config).flatMap(({ site, localPool, remotePools }) => [
    { ...localPool, site },
    ...remotePools,
  ]);
  const asked = pools.map(async ({ site, servers, tls }): Promise<PeerCertificate | null> => {
    const [server] = servers;
    if (tls === null || server === undefined) return null;
    const certificate = await certificateOf(server, tls.sni);
    return certificate === null
      ? null
      : { address: formatAddress(server), site, sni: tls.sni, why: whyKeyUsageIsRefused(certificate) };
  });
  return (await Promise.all(asked)).filter((peer) => peer !== null);
}

/** Null where it can't be had from here. */
async function certificateOf({ host, port }: TcpAddress, servername: string): Promise<X509Certificate | null> {
  let socket: TLSSocket | undefined;
  try {
    // Only to look at it; nothing is said over this connection.
    const connecting = connect({ host, port, servername, rejectUnauthorized: false, timeout: TIMEOUT_MS });
    socket = connecting;
    connecting.on('timeout', () => connecting.destroy(new Error('no TLS in time')));
    await once(socket, 'secureConnect');
    return socket.getPeerX509Certificate() ?? null;
  } catch {
    return null;
  } finally {
    socket?.destroy();
  }
}
