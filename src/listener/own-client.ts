import { X509Certificate } from 'node:crypto';
import type { ConnectionOptions } from 'node:tls';
import type { ListenTlsConfig } from '../config/config.ts';
import { readCertificates } from './certificates.ts';

/**
 * For a command that speaks to its own sidecar's ops listener: it has the same config file, so it shows the listener's
 * own certificate, and takes no other for an answer, whatever the address.
 * @throws CertificateError when the files can't be used
 */
export async function ownClient(tls: ListenTlsConfig): Promise<ConnectionOptions> {
  const { cert, key, clientCa } = await readCertificates('ops_listen', tls);
  const { fingerprint256 } = new X509Certificate(cert);
  return {
    ...{ cert, key, ca: clientCa },
    checkServerIdentity: (_host, peer) =>
      peer.fingerprint256 === fingerprint256
        ? undefined
        : new Error(`it has another certificate than the one in ${tls.certFile}`),
  };
}
