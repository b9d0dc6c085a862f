import { cp, mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { HOST_NAME, replaceCertificate, replaceFile, TestCa } from '../support/certificates.ts';
import { withRenderedEnvoy } from '../support/rendered-envoy.ts';

/** The listener that clients come to, over TLS. */
let directory: string;
let ca: TestCa;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-edge-tls-'));
  ca = await TestCa.create(directory);
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

interface TlsAnswer {
  readonly status: number;
  readonly certificate: string;
}

/** Asks for the status URI, on a connection of its own, of a server whose certificate must be right. */
async function askOver1(port: number, files: { cert?: Buffer; key?: Buffer } = {}): Promise<TlsAnswer> {
  const options = { host: '127.0.0.1', port, path: '/local_pool_status', servername: HOST_NAME, agent: false };
  const trusted = await ca.clientOf(await ca.issue('trusted'));
  return await new Promise((resolve, reject) => {
    get({ ...options, ca: trusted.ca, ...files }, (response) => {
      const certificate = (response.socket as TLSSocket).getPeerCertificate().fingerprint256;
      response.resume().on('end', () => resolve({ status: response.statusCode ?? 0, certificate }));
    }).on('error', reject);
  });
}

async function askOver2(port: number): Promise<number> {
  const { ca: trusted } = await ca.clientOf(await ca.issue('trusted'));
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: trusted, servername: HOST_NAME });
  try {
    return await new Promise((resolve, reject) => {
      session.on('error', reject);
      const stream = session.request({ ':path': '/local_pool_status' });
      stream.on('response', (headers) => resolve(Number(headers[':status'])));
      stream.on('error', reject);
      stream.end();
    });
  } finally {
    session.destroy();
  }
}

describe.each(['1.36.4', '1.40.0'])('Envoy %s', (release) => {
  test.each([true, false])(
    'serves HTTP/1.1 and HTTP/2; with secrets_dir (%s) a new certificate at once',
    async (hasSecrets) => {
      const live = { certFile: join(directory, 'live', 'edge.pem'), keyFile: join(directory, 'live', 'edge.key') };
      await mkdir(join(directory, 'live'), { recursive: true });
      await replaceCertificate(await ca.issue('first'), live);
      const envoy = {
        listen_tls: { cert_file: live.certFile, key_file: live.keyFile },
        ...(hasSecrets ? { secrets_dir: join(directory, 'secrets') } : {}),
      };
      await withRenderedEnvoy({ release, directory, envoy }, async ({ edgePort }) => {
        const first = await askOver1(edgePort);
        // There is no server.
        expect(first.status).toBe(503);
        expect(await askOver2(edgePort)).toBe(503);
        await expect(fetch(`http://127.0.0.1:${edgePort}/`)).rejects.toThrow();
        await replaceCertificate(await ca.issue('second'), live);
        const isNew = async () => (await askOver1(edgePort)).certificate !== first.certificate;
        if (hasSecrets) await waitUntil(isNew, { what: 'the new certificate' });
        else expect(await isNew()).toBe(false);
      });
    },
  );

  test('a certificate is taken from where Kubernetes puts another secret, by one link', async () => {
    const mount = join(directory, 'mount');
    await rm(mount, { recursive: true, force: true });
    await mkdir(mount);
    const put = async (version: string) => {
      const { certFile, keyFile } = await ca.issue(version);
      await mkdir(join(mount, version));
      await cp(certFile, join(mount, version, 'tls.crt'));
      await cp(keyFile, join(mount, version, 'tls.key'));
      await symlink(version, join(mount, '..data_tmp'));
      await rename(join(mount, '..data_tmp'), join(mount, '..data'));
    };
    await put('..v1');
    for (const name of ['tls.crt', 'tls.key']) await symlink(join('..data', name), join(mount, name));
    const envoy = {
      listen_tls: { cert_file: join(mount, 'tls.crt'), key_file: join(mount, 'tls.key') },
      secrets_dir: join(directory, 'secrets'),
    };
    await withRenderedEnvoy({ release, directory, envoy }, async ({ edgePort }) => {
      const first = await askOver1(edgePort);
      await put('..v2');
      const isNew = async () => (await askOver1(edgePort)).certificate !== first.certificate;
      await waitUntil(isNew, { what: 'the new certificate' });
    });
  });

  test('a certificate that is written in place is taken once anything is renamed in its directory', async () => {
    const live = { certFile: join(directory, 'inplace', 'edge.pem'), keyFile: join(directory, 'inplace', 'edge.key') };
    await mkdir(join(directory, 'inplace'), { recursive: true });
    await replaceCertificate(await ca.issue('first'), live);
    const envoy = {
      listen_tls: { cert_file: live.certFile, key_file: live.keyFile },
      secrets_dir: join(directory, 'secrets'),
    };
    await withRenderedEnvoy({ release, directory, envoy }, async ({ edgePort }) => {
      const first = await askOver1(edgePort);
      const second = await ca.issue('second');
      await cp(second.certFile, live.certFile);
      await cp(second.keyFile, live.keyFile);
      expect((await askOver1(edgePort)).certificate).toBe(first.certificate);
      await replaceFile(join(directory, 'inplace', '.renewed'), '');
      const isNew = async () => (await askOver1(edgePort)).certificate !== first.certificate;
      await waitUntil(isNew, { what: 'the new certificate' });
    });
  });

  test('with client_ca_file it takes no client without a certificate', async () => {
    const files = await ca.issue('edge');
    const client = await ca.clientOf(await ca.issue('client'));
    const listen_tls = { cert_file: files.certFile, key_file: files.keyFile, client_ca_file: ca.certFile };
    const options = { release, directory, envoy: { listen_tls } };
    await withRenderedEnvoy(options, async ({ edgePort }) => {
      expect((await askOver1(edgePort, client)).status).toBe(503);
      await expect(askOver1(edgePort)).rejects.toThrow();
      const stranger = await (await TestCa.create(directory, 'strange-ca')).issue('stranger');
      const { cert, key } = await ca.clientOf(stranger);
      await expect(askOver1(edgePort, { cert, key })).rejects.toThrow();
    });
  });
});
