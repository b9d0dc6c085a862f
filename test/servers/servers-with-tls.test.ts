import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { Metadata } from '@grpc/grpc-js';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { HOST_NAME, type IssuedFiles, TestCa } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { freePorts } from '../support/free-ports.ts';
import { GrpcClient } from '../support/grpc-client.ts';
import { type LabOptions, startTwoSites, type TwoSites } from '../support/two-sites.ts';

/** Servers that speak TLS: each is one of the application's, behind a socket that does it. */

let ca: TestCa;
let files: IssuedFiles;

beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-tls-'));
  ca = await TestCa.create(directory);
  files = await ca.issue('app');
  return async () => await rm(directory, { recursive: true, force: true });
});

/** @param alpn where it is one protocol, a connection that has not agreed on it is closed */
async function startTlsServer(
  port: number,
  { certFile, keyFile }: IssuedFiles,
  alpn: readonly string[],
): Promise<{ leadTo(port: number): void }> {
  let target = 0;
  const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
  const server: Server = createServer({ cert, key, ALPNProtocols: [...alpn] }, (socket) => {
    if (alpn.length === 1 && socket.alpnProtocol !== alpn[0]) return void socket.destroy();
    const inner = connect(target, '127.0.0.1');
    socket.on('error', () => inner.destroy()).on('close', () => inner.destroy());
    inner.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.pipe(inner).pipe(socket);
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return {
    leadTo(appPort) {
      target = appPort;
    },
  };
}

/** East's servers speak TLS. */
async function startLab(pool: Record<string, unknown>, options: LabOptions): Promise<TwoSites> {
  const ports = await freePorts(2);
  const alpn = pool.protocol === 'http2' ? ['h2'] : ['h2', 'http/1.1'];
  const fronts = await Promise.all(ports.map((port) => startTlsServer(port, files, alpn)));
  const lab = await startTwoSites({
    ...options,
    configure: (file, site) => {
      file.local_pool.protocol = pool.protocol ?? 'http1';
      if (site === 'west') return;
      const apps = [file.local_pool.servers].flat().map((server) => Number(String(server).split(':')[1]));
      for (const [index, front] of fronts.entries()) front.leadTo(apps[index] ?? 0);
      Object.assign(file.local_pool, pool, {
        servers: ports.map((port) => `127.0.0.1:${port}`),
        tls: { sni: HOST_NAME, ca_file: ca.certFile },
      });
    },
  });
  onTestFinished(() => lab.close());
  return lab;
}

describe.each(['1.40.0', '1.36.4'] as const)('Envoy %s', (envoyVersion) => {
  test.each([false, true])('are reached and stuck to, close_when_down: %s', async (close_when_down) => {
    const lab = await startLab({ close_when_down }, { envoyVersion });
    const client = new Client();
    onTestFinished(() => client.close());
    const first = await client.ask(lab.east.url);
    for (const edge of [lab.east.url, lab.west.url, lab.east.url]) {
      expect(await client.ask(edge)).toMatchObject({ site: 'east', server: first.server });
    }
    await lab.east.stopPool();
    await lab.east.waitForStatus(503);
    expect(await client.ask(lab.east.url)).toMatchObject({ site: 'west' });
  });

  test.each([
    ['downstream', 'both'],
    ['http2', 'http2'],
  ] as const)(
    'speak gRPC, protocol %s, and are asked for a path by their health check',
    async (protocol, appsSpeak) => {
      const lab = await startLab({ protocol }, { envoyVersion, appsSpeak });
      for (const edge of [lab.east.url, lab.west.url]) {
        const client = new GrpcClient(edge, () => new Metadata());
        expect(await client.say('one', 'two')).toMatchObject({ status: 'OK', messages: ['one', 'two'] });
        client.close();
      }
    },
  );
});
