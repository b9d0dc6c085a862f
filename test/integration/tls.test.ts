import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { connect } from 'node:tls';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { httpRequest } from '../../src/envoy-admin/http-request.ts';
import { type ClientFiles, HOST_NAME, type IssuedFiles, replaceFile, TestCa } from '../support/certificates.ts';
import { type East, startEast } from '../support/east.ts';
import { runCli, startServe } from './cli-process.ts';
import { ExtProcClient, requestHeaders } from './ext-proc-client.ts';
import { eastFile, type SiteFile, startAdmin, temporaryDirectory, writeSiteFile } from './site.ts';

/** What a sidecar with TLS on both listeners needs, and who comes to it. */
interface World {
  readonly directory: string;
  readonly ca: TestCa;
  readonly server: IssuedFiles;
  readonly right: ClientFiles;
  /** Of the config file. */
  readonly keys: SiteFile;
}

async function makeWorld(): Promise<World> {
  const directory = await temporaryDirectory();
  const ca = await TestCa.create(directory);
  const [server, envoy] = await Promise.all([ca.issue('server'), ca.issue('envoy')]);
  const tls = { cert_file: server.certFile, key_file: server.keyFile, client_ca_file: ca.certFile };
  return { directory, ca, server, right: await ca.clientOf(envoy), keys: { listen_tls: tls, ops_listen_tls: tls } };
}

type TlsEast = World & East;

async function startTlsEast(): Promise<TlsEast> {
  const world = await makeWorld();
  return { ...world, ...(await startEast(world.keys)) };
}

function clientOf({ config }: TlsEast, tls?: Partial<ClientFiles>): ExtProcClient {
  const client = new ExtProcClient(config.listen, tls);
  onTestFinished(() => client.close());
  return client;
}

/** The decision that a client gets, or how its call ends without one. */
async function askForDecision(east: TlsEast, tls?: Partial<ClientFiles>): Promise<string> {
  const stream = clientOf(east, tls).open();
  stream.send(requestHeaders({}));
  const { code } = await stream.ended;
  return stream.replies[0]?.decision ?? status[code] ?? '';
}

/** The status that the ops listener answers, or `refused`. */
async function askOps({ config }: TlsEast, tls?: Partial<ClientFiles>): Promise<number | 'refused'> {
  const over = tls === undefined ? {} : { tls: { servername: HOST_NAME, ...tls } };
  const answer = httpRequest(config.opsListen, { method: 'GET', path: '/livez', timeoutMs: 10_000, ...over });
  return await answer.then((got) => got.status).catch(() => 'refused' as const);
}

type Who = (east: TlsEast) => Promise<Partial<ClientFiles> | undefined>;

const REFUSED: readonly (readonly [who: string, client: Who, why: RegExp])[] = [
  [
    'of another CA',
    async ({ directory, ca, right }) => {
      const other = await TestCa.create(directory, 'other-ca');
      return { ...(await ca.clientOf(await other.issue('stranger'))), ca: right.ca };
    },
    /its certificate is not taken \(\w+\)$/,
  ],
  [
    'whose certificate has expired',
    async ({ ca }) => await ca.clientOf(await ca.issue('late', { days: -1 })),
    /its certificate is not taken \(CERT_HAS_EXPIRED\)$/,
  ],
  ['without a certificate', async ({ right }) => ({ ca: right.ca }), /it shows no certificate$/],
  ['that does not speak TLS', async () => undefined, /it does not speak TLS$/],
];

describe('the ext_proc listener with TLS', () => {
  test('decides for a client with the right certificate, and answers its health checks', async () => {
    const east = await startTlsEast();
    const client = clientOf(east, east.right);
    expect((await client.decide({})).decision).toBe('local');
    expect(await client.health()).toBe('SERVING');
  });

  test.each(REFUSED)('takes no client %s, says why, and goes on', async (_, who, why) => {
    const east = await startTlsEast();
    const before = clientOf(east, east.right);
    expect((await before.decide({})).decision).toBe('local');
    expect(await askForDecision(east, await who(east))).toBe('UNAVAILABLE');
    await waitUntil(() => east.log.matching(why).length > 0, { what: 'the refusal to be logged' });
    expect(east.log.matching(why)[0]).toMatch(/^warn listen: a connection (from \S+ )?was rejected: /);
    expect((await before.decide({})).decision).toBe('local');
  });

  test('offers no version of TLS before 1.2', async () => {
    const { config, right } = await startTlsEast();
    if (config.listen.kind === 'unix') throw new Error('no TLS there');
    const { host, port } = config.listen;
    const ciphers = 'DEFAULT:@SECLEVEL=0';
    const old = connect({
      host,
      port,
      servername: HOST_NAME,
      ...right,
      ciphers,
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
    });
    const [error] = await once(old, 'error');
    expect(String(error)).toMatch(/version/i);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'resumes no session of %s, which would pass by a new CA',
    async (version) => {
      const { config, right } = await startTlsEast();
      if (config.listen.kind === 'unix') throw new Error('no TLS there');
      const { host, port } = config.listen;
      const options = { ...right, host, port, servername: HOST_NAME, ALPNProtocols: ['h2'], maxVersion: version };
      const first = connect(options);
      const tickets: Buffer[] = [];
      first.on('session', (ticket) => tickets.push(ticket));
      // The server's first frame comes after whatever it has to say of the session.
      await once(first, 'data');
      const session = tickets[0] ?? first.getSession();
      const second = connect({ ...options, ...(session === undefined ? {} : { session }) });
      await once(second, 'data');
      expect(second.isSessionReused()).toBe(false);
      for (const connection of [first, second]) connection.destroy();
    },
  );

  test('stops in peace with a client connected', async () => {
    const east = await startTlsEast();
    const client = clientOf(east, east.right);
    expect((await client.decide({})).decision).toBe('local');
    await east.sidecar.close();
    expect(east.log.matching(/cut off/)).toEqual([]);
  });
});

describe('the ops listener with TLS', () => {
  test('answers a client with the right certificate', async () => {
    const east = await startTlsEast();
    expect(await askOps(east, east.right)).toBe(200);
  });

  test.each(REFUSED)('takes no client %s, says why, and goes on', async (_, who, why) => {
    const east = await startTlsEast();
    expect(await askOps(east, await who(east))).toBe('refused');
    await waitUntil(() => east.log.matching(why).length > 0, { what: 'the refusal to be logged' });
    expect(east.log.matching(why)[0]).toMatch(/^warn ops_listen: /);
    expect(await askOps(east, east.right)).toBe(200);
  });

  test('stops without waiting for a client in the middle of its handshake', async () => {
    const east = await startTlsEast();
    const { opsListen } = east.config;
    if (opsListen.kind === 'unix') throw new Error('no TLS there');
    const idle = connectTcp(opsListen.port, opsListen.host);
    idle.on('error', () => {});
    await once(idle, 'connect');
    // Over a connection that was made later: the first one has been taken.
    expect(await askOps(east, east.right)).toBe(200);
    const began = performance.now();
    await east.sidecar.close();
    expect(performance.now() - began).toBeLessThan(4_000);
  });

  test("answers the sidecar's own commands, which show its certificate", async () => {
    const { keys, ca, directory } = await makeWorld();
    const file = await eastFile(await startAdmin(), keys);
    const configFile = await writeSiteFile(file);
    await startServe(configFile);
    const [status, drain] = [await runCli(['status', '-c', configFile]), await runCli(['drain', '-c', configFile])];
    expect([status.code, status.stderr, drain.code, drain.stderr]).toEqual([0, '', 0, '']);
    expect(drain.stdout).toContain('draining');

    const other = await ca.issue('other');
    const tls = { cert_file: other.certFile, key_file: other.keyFile, client_ca_file: ca.certFile };
    const otherFile = await writeSiteFile({ ...file, ops_listen_tls: tls });
    const { code, stderr } = await runCli(['status', '-c', otherFile]);
    expect(code).toBe(1);
    expect(stderr).toContain(`it has another certificate than the one in ${directory}/other.pem`);
  });
});

describe('certificates that change', () => {
  /** The name on the certificate that a listener shows. */
  async function shownBy({ config, right }: TlsEast): Promise<string> {
    if (config.listen.kind === 'unix') throw new Error('no TLS there');
    const { host, port } = config.listen;
    const connection = connect({ host, port, servername: HOST_NAME, ...right, ALPNProtocols: ['h2'] });
    await once(connection, 'secureConnect');
    const name = connection.getPeerCertificate().subject.CN;
    connection.destroy();
    return String(name);
  }

  async function replace(old: IssuedFiles, by: IssuedFiles): Promise<void> {
    await Promise.all([cp(by.certFile, old.certFile), cp(by.keyFile, old.keyFile)]);
  }

  test('are shown from then on, and connections that are there stay', async () => {
    const east = await startTlsEast();
    const client = clientOf(east, east.right);
    const stream = client.open();
    expect(await shownBy(east)).toBe('server');
    await replace(east.server, await east.ca.issue('renewed'));
    await waitUntil(async () => (await shownBy(east)) === 'renewed', { what: 'the new certificate to be shown' });
    stream.send(requestHeaders({}));
    expect((await stream.reply(0)).decision).toBe('local');
    expect(east.log.matching(/new certificates/)).toContainEqual(
      expect.stringMatching(/^info listen_tls: new certificates, valid until \d{4}-/),
    );
    expect(await askOps(east, east.right)).toBe(200);
  });

  test('are in the metrics by when they end', async () => {
    const east = await startTlsEast();
    // Of a bundle of CAs the last one to end counts, for the others may be old ones.
    const old = await TestCa.create(east.directory, 'old-ca', { days: 1 });
    const ca = await readFile(east.ca.certFile, 'utf8');
    await replaceFile(east.ca.certFile, (await readFile(old.certFile, 'utf8')) + ca);
    await waitUntil(() => east.log.matching(/new certificates/).length === 2, { what: 'both listeners to have it' });
    const ends = {
      cert_file: new X509Certificate(await readFile(east.server.certFile)).validTo,
      client_ca_file: new X509Certificate(ca).validTo,
    };
    const { body } = await httpRequest(east.config.opsListen, {
      ...{ method: 'GET', path: '/metrics', timeoutMs: 10_000 },
      tls: { servername: HOST_NAME, ...east.right },
    });
    for (const listener of ['listen', 'ops_listen']) {
      for (const [file, end] of Object.entries(ends)) {
        const metric = `site_persistence_certificate_expiry_timestamp_seconds{listener="${listener}",file="${file}"}`;
        expect(body).toContain(`${metric} ${Date.parse(end) / 1_000}\n`);
      }
    }
  });

  test('are refused where they are bad, by the name of their file, and the old ones stay', async () => {
    const east = await startTlsEast();
    // As a whole: half of it might be seen, and be told of as well.
    await replaceFile(east.server.certFile, 'no certificate');
    await waitUntil(() => east.log.matching(/the old certificates stay/).length === 2, { what: 'both to refuse it' });
    const { certFile } = east.server;
    expect(east.log.matching(/the old certificates stay/).toSorted()).toEqual(
      ['listen', 'ops_listen'].map((key) => {
        const why = 'has no certificate: it must be PEM text with BEGIN CERTIFICATE';
        return `error ${certFile} (${key}_tls.cert_file): ${why}; the old certificates stay`;
      }),
    );
    expect(await shownBy(east)).toBe('server');
    expect(await askForDecision(east, east.right)).toBe('local');
  });

  test('of the CA let in whom it has signed, and nobody else any more', async () => {
    const east = await startTlsEast();
    const next = await TestCa.create(east.directory, 'next-ca');
    const newcomer = { ...(await next.clientOf(await next.issue('newcomer'))), ca: east.right.ca };
    expect(await askForDecision(east, newcomer)).toBe('UNAVAILABLE');
    await cp(next.certFile, east.ca.certFile);
    await waitUntil(async () => (await askForDecision(east, newcomer)) === 'local', { what: 'the new CA to count' });
    expect(await askForDecision(east, east.right)).toBe('UNAVAILABLE');
  });
});

describe('serve says in one line, and exits 2, of a certificate', () => {
  async function complaintOf(spoil: (world: World) => Promise<unknown>): Promise<string> {
    const world = await makeWorld();
    await spoil(world);
    const { code, stdout, stderr } = await runCli([
      'serve',
      '-c',
      await writeSiteFile(await eastFile(await startAdmin(), world.keys)),
    ]);
    expect([code, stdout]).toEqual([2, '']);
    return stderr.replaceAll(world.directory, 'DIR');
  }

  test.each<[string, (world: World) => Promise<unknown>, string]>([
    [
      'that is not there',
      ({ server }) => rm(server.certFile),
      'DIR/server.pem (ops_listen_tls.cert_file): no such file',
    ],
    [
      'that has expired',
      ({ ca }) => ca.issue('server', { days: -1 }),
      'DIR/server.pem (ops_listen_tls.cert_file): the certificate has expired on ',
    ],
    [
      'with the key of another',
      async ({ ca, server }) => await cp((await ca.issue('other')).keyFile, server.keyFile),
      'DIR/server.key (ops_listen_tls.key_file): is not the key of the certificate in DIR/server.pem',
    ],
    [
      'whose key is none',
      ({ server }) => writeFile(server.keyFile, 'no key'),
      'DIR/server.key (ops_listen_tls.key_file): has no private key',
    ],
    [
      'whose key is encrypted',
      ({ server }) => writeFile(server.keyFile, '-----BEGIN ENCRYPTED PRIVATE KEY-----\n'),
      'DIR/server.key (ops_listen_tls.key_file): is encrypted',
    ],
    [
      'that is cut short',
      ({ ca }) => writeFile(ca.certFile, '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'),
      'DIR/ca.pem (ops_listen_tls.client_ca_file): has a broken certificate',
    ],
  ])('%s', async (_, spoil, expected) => {
    const said = await complaintOf(spoil);
    expect(said).toContain(expected);
    expect(said.trimEnd()).not.toContain('\n');
  });
});
