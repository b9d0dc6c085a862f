import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Metadata } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { Client } from '../support/client.ts';
import { GrpcClient } from '../support/grpc-client.ts';
import { HopCertificates } from '../support/hop-certificates.ts';
import {
  type ConfigFile,
  EAST_COOKIE,
  type EnvoyRelease,
  type LabOptions,
  startTwoSites,
  type TwoSites,
  WEST_COOKIE,
} from '../support/two-sites.ts';
import { openWebSocket } from '../support/web-socket.ts';

const run = promisify(execFile);

interface Lab extends TwoSites {
  grpc(edge: string, cookie?: string): GrpcClient;
}

async function startLab(options: LabOptions): Promise<Lab> {
  const lab = await startTwoSites(options);
  onTestFinished(() => lab.close());
  return {
    ...lab,
    grpc(edge, cookie) {
      const metadata = new Metadata();
      if (cookie !== undefined) metadata.set('cookie', cookie);
      const client = new GrpcClient(edge, () => metadata);
      onTestFinished(() => client.close());
      return client;
    },
  };
}

const speaks = (protocol: string) => (file: ConfigFile) => {
  file.local_pool.protocol = protocol;
  // An HTTP/2 server of gRPC alone has no path to be asked for.
  if (protocol === 'http2') file.local_pool.health_check = { interval: '1s' };
};

const nameOf = (setCookie: string) => setCookie.split('=', 1)[0] ?? '';

/** The session that an answer has begun, as the client would send it. */
function sessionOf(setCookies: readonly string[], name: string): string {
  const line = setCookies.find((cookie) => nameOf(cookie) === name);
  if (line === undefined) throw new Error(`no ${name} in ${setCookies.join(' | ')}`);
  return line.split(';', 1)[0] ?? '';
}

describe.each(['1.40.0', '1.36.4'] as const)('Envoy %s', (envoyVersion: EnvoyRelease) => {
  test.each([
    ['downstream', 'both'],
    ['http2', 'http2'],
  ] as const)(
    'gRPC with protocol %s stays at its server, locally and across sites, and is adopted',
    async (protocol, appsSpeak) => {
      const lab = await startLab({ envoyVersion, appsSpeak, configure: speaks(protocol) });
      const first = await lab.grpc(lab.east.url).say('one');
      expect(first).toMatchObject({ status: 'OK', messages: ['one'], hop: null });
      const session = sessionOf(first.setCookies, EAST_COOKIE);

      const words = Array.from({ length: 20 }, (_, index) => `word ${index}`);
      const local = await lab.grpc(lab.east.url, session).say(...words);
      expect(local).toMatchObject({ status: 'OK', messages: words, server: first.server });
      const forwarded = await lab.grpc(lab.west.url, session).say(...words);
      expect(forwarded).toMatchObject({ status: 'OK', messages: words, server: first.server, hop: 'west' });

      // A refusal: east's servers are gone, and west has not noticed.
      await lab.east.stopPool();
      const adopted = await lab.grpc(lab.west.url, session).say(...words);
      expect(adopted).toMatchObject({ status: 'OK', messages: words, server: expect.stringMatching(/^west/) });
      expect(adopted.setCookies.map(nameOf).toSorted()).toEqual([WEST_COOKIE, EAST_COOKIE].toSorted());
      await lab.west.waitForRemote('down');
      const later = await lab.grpc(lab.west.url, session).say('later');
      expect(later).toMatchObject({ status: 'OK', server: expect.stringMatching(/^west/) });

      // Without the sidecars.
      await Promise.all(lab.sites.map((site) => site.sidecar().stop('SIGKILL')));
      const undecided = await lab.grpc(lab.west.url, session).say(...words);
      expect(undecided).toMatchObject({ status: 'OK', messages: words, server: expect.stringMatching(/^west/) });
    },
  );

  test('gRPC goes over TLS between the sites, by what they agree on', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-grpc-'));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const certificates = await HopCertificates.create(directory);
    const configure = (file: ConfigFile, site: 'east' | 'west') => {
      certificates.configure(file, site);
      file.local_pool.protocol = 'downstream';
    };
    const lab = await startLab({ envoyVersion, appsSpeak: 'both', configure });
    const { server, setCookies } = await lab.grpc(lab.east.url).say('one');
    const words = ['one', 'two', 'three'];
    const forwarded = await lab.grpc(lab.west.url, sessionOf(setCookies, EAST_COOKIE)).say(...words);
    expect(forwarded).toMatchObject({ status: 'OK', messages: words, server, hop: 'west' });
  });

  test('browsers and WebSockets go on beside it, over HTTP/1.1 to servers that take WebSockets only there', async () => {
    const lab = await startLab({ envoyVersion, appsSpeak: 'both', configure: speaks('downstream') });
    const client = new Client();
    onTestFinished(() => client.close());
    const { server } = await client.ask(lab.east.url);
    expect(await client.ask(lab.west.url)).toMatchObject({ site: 'east', server, hop: 'west' });
    const cookie = `${EAST_COOKIE}=${client.cookies.get(EAST_COOKIE)}`;
    for (const edge of [lab.east.url, lab.west.url]) {
      const socket = await openWebSocket(edge, cookie);
      expect(await socket.say('ping')).toBe('ping');
      expect(socket.greeting).toBe(`east/${server}`);
      socket.close();
    }
    await Promise.all(lab.sites.map((site) => site.sidecar().stop('SIGKILL')));
    const socket = await openWebSocket(lab.west.url, cookie);
    expect(await socket.say('ping')).toBe('ping');
    socket.close();
    await lab.east.stopPool();
    const adopted = await openWebSocket(lab.west.url, cookie);
    expect(adopted.greeting).toMatch(/^west/);
    adopted.close();
  });
});

test('doctor sees servers that do not speak what Envoy does, though their health check passes', async () => {
  const lab = await startLab({
    appsSpeak: 'http2',
    configure: (file) => {
      file.local_pool.health_check = { interval: '1s' };
    },
  });
  expect(await lab.grpc(lab.east.url).say('one')).not.toMatchObject({ status: 'OK' });
  const result = await run(process.execPath, [CLI, 'doctor', '--config', lab.east.configFile]).catch(
    (error: unknown) => error,
  );
  expect(result).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/WRONG +local pool +127\.0\.0\.1:\d+ does not speak HTTP\/1\.1, only HTTP\/2/),
  });
});
