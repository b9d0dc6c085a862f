import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { ListenTlsConfig } from '../config/config.ts';
import { printable } from '../config/config-error.ts';
import { formatBytes } from '../config/format-bytes.ts';
import type { ListenerKey } from '../config/listener-safety.ts';
import { readAtMost } from '../config/read-at-most.ts';
import { whyUnreadable } from '../config/unreadable.ts';

/** A certificate or key that can't be used; the message says which file of which key of the config, why, and the fix. */
export class CertificateError extends Error {
  readonly code = 'CERTIFICATE_INVALID';

  constructor(file: string, key: string, why: string, options?: ErrorOptions) {
    super(printable(`${file} (${key}): ${why}`), options);
    this.name = 'CertificateError';
  }
}

/** From when to when a certificate counts. */
export interface Validity {
  readonly validFrom: Date;
  readonly validTo: Date;
}

/** The files of a listener's TLS that hold certificates, by their keys. */
export const CERTIFICATE_FILES = ['cert_file', 'client_ca_file'] as const;
export type CertificateFile = (typeof CERTIFICATE_FILES)[number];

/** What the files of a listener's TLS hold, each PEM text and checked. */
export interface Certificates {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string;
  /** Of the chain that which ends first; of the CAs that which ends last, for others may be old ones. */
  readonly validity: Readonly<Record<CertificateFile, Validity>>;
}

/** A file, and the key of the config that names it. */
interface Source {
  readonly file: string;
  readonly key: string;
}

/** The CAs of a whole system are a fifth of it. */
export const MAX_CERTIFICATE_BYTES = 1024 * 1024;

/** Reads and checks the files of a listener's TLS. @throws CertificateError for the first that can't be used */
export async function readCertificates(listener: ListenerKey, tls: ListenTlsConfig): Promise<Certificates> {
  const source = (name: string, file: string): Source => ({ file, key: `${listener}_tls.${name}` });
  const [certSource, keySource, caSource] = [
    source('cert_file', tls.certFile),
    source('key_file', tls.keyFile),
    source('client_ca_file', tls.clientCaFile),
  ];
  const [cert, key, clientCa] = await Promise.all([read(certSource), read(keySource), read(caSource)]);

  const chain = parseCertificates(cert, certSource);
  const [own] = chain;
  const whyNot = whyNotNow(own);
  if (whyNot !== null) throw refusal(certSource, `the certificate ${whyNot}: get a new one`);
  if (!own.checkPrivateKey(parseKey(key, keySource))) {
    throw refusal(keySource, `is not the key of the certificate in ${tls.certFile}: the two files belong together`);
  }
  const cas = parseCertificates(clientCa, caSource);
  const ends = cas.map(whyNotNow);
  if (ends.every((why) => why !== null)) throw refusal(caSource, `the CA's certificate ${ends[0]}: get a new one`);
  try {
    // OpenSSL has an opinion of its own, such as that a key is too short.
    createSecureContext({ cert, key, ca: clientCa });
  } catch (error) {
    throw refusal(certSource, `OpenSSL does not take it: ${error instanceof Error ? error.message : error}`, error);
  }
  const endsFirst = chain.reduce((a, b) => (endOf(b) < endOf(a) ? b : a));
  const endsLast = cas.reduce((a, b) => (endOf(b) > endOf(a) ? b : a));
  return { cert, key, clientCa, validity: { cert_file: validityOf(endsFirst), client_ca_file: validityOf(endsLast) } };
}

function endOf({ validTo }: X509Certificate): number {
  return Date.parse(validTo);
}

function validityOf({ validFrom, validTo }: X509Certificate): Validity {
  return { validFrom: new Date(validFrom), validTo: new Date(validTo) };
}

function refusal({ file, key }: Source, why: string, cause?: unknown): CertificateError {
  return new CertificateError(file, key, why, { cause });
}

async function read(source: Source): Promise<string> {
  const { bytes, size } = await readAtMost(source.file, MAX_CERTIFICATE_BYTES).catch((error: unknown) => {
    throw refusal(source, whyUnreadable(error, { directory: 'name the file in it' }), error);
  });
  if (size !== bytes.length) throw refusal(source, `is too large: at most ${formatBytes(MAX_CERTIFICATE_BYTES)}`);
  return bytes.toString();
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----/gs;

function parseCertificates(text: string, source: Source): [X509Certificate, ...X509Certificate[]] {
  try {
    const [first, ...rest] = (text.match(PEM_CERTIFICATE) ?? []).map((pem) => new X509Certificate(pem));
    if (first !== undefined) return [first, ...rest];
  } catch (error) {
    throw refusal(source, 'has a broken certificate: is the file whole?', error);
  }
  throw refusal(source, 'has no certificate: it must be PEM text with BEGIN CERTIFICATE');
}

function parseKey(text: string, source: Source): KeyObject {
  if (text.includes('ENCRYPTED')) {
    throw refusal(source, 'is encrypted: take the passphrase away ("openssl pkey") and let only the sidecar read it');
  }
  try {
    return createPrivateKey(text);
  } catch (error) {
    throw refusal(source, 'has no private key: it must be PEM text with BEGIN PRIVATE KEY', error);
  }
}

/** Why a certificate counts for nothing at this time; null where it counts. */
function whyNotNow({ validFrom, validTo }: X509Certificate): string | null {
  const now = Date.now();
  if (now > Date.parse(validTo)) return `has expired on ${day(validTo)}`;
  if (now < Date.parse(validFrom)) return `is not valid before ${day(validFrom)}`;
  return null;
}

function day(time: string): string {
  return new Date(time).toISOString().slice(0, 10);
}
