import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The name that every certificate made here is good for, besides loopback. */
export const HOST_NAME = 'sidecar.test';

export interface IssuedFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** Files as node:tls takes them. */
export interface ClientFiles {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface IssueOptions {
  readonly days?: number;
  /** Of an RSA certificate, such as `critical,keyEncipherment`; only there it tells. */
  readonly keyUsage?: string;
}

const NEW_RSA_KEY = ['-newkey', 'rsa:2048', '-nodes'];
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A certificate authority of its own for the running test, made by openssl. */
export class TestCa {
  readonly certFile: string;
  readonly #directory: string;
  readonly #keyFile: string;

  private constructor(directory: string, name: string) {
    this.#directory = directory;
    this.certFile = join(directory, `${name}.pem`);
    this.#keyFile = join(directory, `${name}.key`);
  }

  static async create(directory: string, name = 'ca', { days = 2 }: { days?: number } = {}): Promise<TestCa> {
    const ca = new TestCa(directory, name);
    const files = ['-keyout', ca.#keyFile, '-out', ca.certFile];
    await run('openssl', ['req', '-x509', ...NEW_KEY, ...files, '-subj', `/CN=${name}`, '-days', String(days)]);
    return ca;
  }

  /** Makes a certificate, good for a server and a client. @param days negative: it has expired */
  async issue(name: string, { days = 1, keyUsage }: IssueOptions = {}): Promise<IssuedFiles> {
    const file = (end: string) => join(this.#directory, `${name}.${end}`);
    const files = { certFile: file('pem'), keyFile: file('key') };
    const usage = keyUsage === undefined ? '' : `keyUsage=${keyUsage}\n`;
    await writeFile(file('ext'), `subjectAltName=DNS:${HOST_NAME},IP:127.0.0.1\n${usage}`);
    const newKey = keyUsage === undefined ? NEW_KEY : NEW_RSA_KEY;
    await run('openssl', ['req', ...newKey, '-keyout', files.keyFile, '-out', file('csr'), '-subj', `/CN=${name}`]);
    // Not by a file of the CA's, which two that are made at once would share.
    const serial = `0x1${randomBytes(8).toString('hex')}`;
    const signer = ['-CA', this.certFile, '-CAkey', this.#keyFile, '-set_serial', serial];
    const request = ['-in', file('csr'), '-out', files.certFile, '-days', String(days), '-extfile', file('ext')];
    await run('openssl', ['x509', '-req', ...request, ...signer]);
    return files;
  }

  /** What a client of these files needs that trusts this CA. */
  async clientOf({ certFile, keyFile }: IssuedFiles): Promise<ClientFiles> {
    const [ca, cert, key] = await Promise.all([readFile(this.certFile), readFile(certFile), readFile(keyFile)]);
    return { ca, cert, key };
  }
}

/** Puts a file in another's place, as a tool does whose readers must never see half of one. */
export async function replaceFile(file: string, content: Buffer | string): Promise<void> {
  await writeFile(`${file}.new`, content);
  await rename(`${file}.new`, file);
}

/** Puts a certificate and its key in the place of others. */
export async function replaceCertificate(issued: IssuedFiles, { certFile, keyFile }: IssuedFiles): Promise<void> {
  await replaceFile(certFile, await readFile(issued.certFile));
  await replaceFile(keyFile, await readFile(issued.keyFile));
}
