import { X509Certificate } from 'node:crypto';
import { readAtMost } from '../config/read-at-most.ts';
import { MAX_CERTIFICATE_BYTES } from './certificates.ts';

/** The extension keyUsage in DER: its object identifier 2.5.29.15 (RFC 5280, 4.2.1.3). */
const KEY_USAGE = Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x0f]);
const CRITICAL = Buffer.from([0x01, 0x01, 0xff]);
const DIGITAL_SIGNATURE = 0x80;

/**
 * Why an Envoy of 1.38 and later refuses a server's certificate that node:tls and earlier Envoys take: an RSA key for
 * keyEncipherment only can't sign a handshake, and BoringSSL now insists on it. Null: it does not.
 */
export function whyKeyUsageIsRefused(certificate: X509Certificate): string | null {
  if (certificate.publicKey.asymmetricKeyType !== 'rsa') return null;
  const { raw } = certificate;
  const at = raw.indexOf(KEY_USAGE);
  if (at < 0) return null;
  let value = at + KEY_USAGE.length;
  if (raw.subarray(value, value + CRITICAL.length).equals(CRITICAL)) value += CRITICAL.length;
  // OCTET STRING of a BIT STRING: 04 len 03 len, the number of unused bits, and then the bits.
  const bits = raw[value + 5] ?? 0;
  if ((bits & DIGITAL_SIGNATURE) !== 0) return null;
  return 'its keyUsage lacks digitalSignature: Envoy 1.38 and later refuse it; issue it with digitalSignature, keyEncipherment';
}

/** The same of the first certificate in a PEM file; null also where it can't be read here. */
export async function whyFileIsRefused(file: string): Promise<string | null> {
  try {
    return whyKeyUsageIsRefused(new X509Certificate((await readAtMost(file, MAX_CERTIFICATE_BYTES)).bytes));
  } catch {
    return null;
  }
}
