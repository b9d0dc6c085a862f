import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { ConfigError, type ConfigProblem } from '../../../src/config/config-error.ts';
import { loadConfig, parseConfig } from '../../../src/config/load.ts';
import { onlyApplication } from '../../support/only-application.ts';
import { changedConfig, yamlLikeText } from './config-arbitraries.ts';
import { DESIGN_EXAMPLE, EVERY_KEY, MINIMAL } from './good-configs.ts';

const BAD_CONFIGS = fileURLToPath(new URL('../../fixtures/bad-config/', import.meta.url));

const MINIMAL_CONFIG: Config = {
  site: 'east',
  listen: { kind: 'tcp', host: '127.0.0.1', port: 9002 },
  opsListen: { kind: 'tcp', host: '127.0.0.1', port: 9003 },
  metricsListen: null,
  listenTls: null,
  opsListenTls: null,
  metricsListenTls: null,
  opsButtons: false,
  socket: { mode: 0o660, owner: null, group: null },
  insecure: false,
  refusalStatus: 503,
  health: { pollIntervalMs: 250, staleAfterMs: 3_000, holdUpMs: 0 },
  applications: [
    {
      name: 'default',
      hosts: ['*'],
      statusUri: '/local_pool_status',
      onOwnerDown: 'adopt',
      bothCookies: 'remote',
      drain: false,
      localPool: {
        cluster: 'local_pool',
        cookie: {
          ...{ name: 'KVAAVROI', path: '/', domain: null, also: [], ttlMs: null, sameSite: null, secure: false },
          opaque: null,
        },
        minUp: 1,
        servers: [],
        protocol: 'http1',
        tls: null,
        closeWhenDown: false,
        healthCheck: { path: null, host: 'localhost', expect: [[200, 399]], intervalMs: 1_000, timeoutMs: 1_000 },
        connectTimeoutMs: 1_000,
        idleTimeoutMs: 4_000,
        eject: null,
      },
      remotePools: [
        {
          site: 'west',
          cluster: 'remote_pool',
          opsUrl: null,
          redirect: null,
          cookie: { name: 'DDVHSLLQ', path: '/', domain: null, also: [], ttlMs: null, sameSite: null, secure: false },
          minUp: 1,
          servers: [],
          healthCheck: { host: null, intervalMs: 1_000, timeoutMs: 1_000, unhealthy: 3 },
          tls: null,
          protocol: 'auto',
          idleTimeoutMs: 25_000,
        },
      ],
    },
  ],
  envoy: {
    admin: { kind: 'tcp', host: '127.0.0.1', port: 9901 },
    listen: null,
    listenTls: null,
    hopListen: null,
    hopListenTls: null,
    hopListenOnly: false,
    defaultHost: null,
    sidecars: [{ kind: 'tcp', host: '127.0.0.1', port: 9002 }],
    sidecarTls: null,
    configDir: null,
    secretsDir: null,
    overlay: null,
    version: '1.40',
    fastPath: true,
    retryOnReset: true,
    streamIdleTimeoutMs: 300_000,
    limits: { connections: 50_000, heapBytes: null },
    trustedHops: 0,
    proxyProtocol: false,
    nodeId: null,
    headersWithUnderscores: 'allow',
    normalizePath: true,
    mergeSlashes: false,
    pathWithEscapedSlashes: 'keep',
  },
};

const WITH_TLS = `${MINIMAL}listen_tls: { cert_file: /c.pem, key_file: /c.key, client_ca_file: /ca.pem }
envoy:
  listen: 127.0.0.1:8080
  sidecar_tls: { sni: sidecar.test, ca_file: /ca.pem, cert_file: /e.pem, key_file: /e.key }
`;

/** A file that starts as {@link MINIMAL}, with the servers of each pool. */
function withServers(file: string): string {
  return file
    .replace('cookie: KVAAVROI\n', 'cookie: KVAAVROI\n  servers: [127.0.0.1:3001]\n')
    .replace('cookie: DDVHSLLQ\n', 'cookie: DDVHSLLQ\n    servers: [127.0.0.1:81]\n');
}

const MINIMAL_AS_JSON = {
  site: 'east',
  local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI' },
  remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ' }],
};

const KEY = '0123456789abcdef0123456789abcdef';
const WITH_OPAQUE_COOKIE = withServers(MINIMAL).replace(
  'cookie: KVAAVROI\n',
  'cookie: { name: KVAAVROI, opaque: { key_file: cookie.key } }\n',
);

describe('parseConfig() reads', () => {
  test('the least there can be, and fills in the defaults', () => {
    expect(parseConfig(MINIMAL, 'site.yaml')).toEqual(MINIMAL_CONFIG);
  });

  test('the example of the design', () => {
    const { envoy, ...rest } = MINIMAL_CONFIG;
    const [only] = MINIMAL_CONFIG.applications;
    const { localPool, remotePools } = onlyApplication(MINIMAL_CONFIG);
    expect(parseConfig(DESIGN_EXAMPLE, 'site.yaml', 'rendering')).toEqual({
      ...rest,
      applications: [
        {
          ...only,
          localPool: {
            ...localPool,
            cookie: { ...localPool.cookie, sameSite: 'Lax' },
            servers: [
              { kind: 'tcp', host: '127.0.0.1', port: 3001, drain: false },
              { kind: 'tcp', host: '127.0.0.1', port: 3002, drain: false },
            ],
            healthCheck: {
              path: '/healthz',
              host: 'localhost',
              expect: [[200, 399]],
              intervalMs: 1_000,
              timeoutMs: 1_000,
            },
          },
          remotePools: remotePools.map((pool) => ({
            ...pool,
            servers: [{ kind: 'tcp', host: '127.0.0.1', port: 8081 }],
          })),
        },
      ],
      envoy: { ...envoy, listen: { kind: 'tcp', host: '0.0.0.0', port: 8080 } },
    });
  });

  test('every key', () => {
    expect(parseConfig(EVERY_KEY, 'site.yaml', 'rendering')).toEqual({
      site: 'east-1',
      listen: { kind: 'unix', path: '/run/site-persistence/ext_proc.sock' },
      opsListen: { kind: 'tcp', host: '::1', port: 9103 },
      metricsListen: { kind: 'tcp', host: '0.0.0.0', port: 9104 },
      listenTls: null,
      opsListenTls: { certFile: '/etc/ops.pem', keyFile: '/etc/ops.key', clientCaFile: '/etc/ops-ca.pem' },
      metricsListenTls: {
        certFile: '/etc/metrics.pem',
        keyFile: '/etc/metrics.key',
        clientCaFile: '/etc/metrics-ca.pem',
      },
      opsButtons: true,
      socket: { mode: 0o600, owner: 1000, group: 1001 },
      insecure: true,
      refusalStatus: 421,
      health: { pollIntervalMs: 100, staleAfterMs: 1_500, holdUpMs: 30_000 },
      applications: [
        {
          name: 'default',
          hosts: ['*'],
          statusUri: '/status/of/local_pool',
          onOwnerDown: 'keep',
          bothCookies: 'local',
          drain: true,
          localPool: {
            cluster: 'app|east',
            cookie: {
              name: '__Secure-KVAAVROI',
              also: ['__Secure-OLDEAST'],
              path: '/app',
              domain: '.example.com',
              ttlMs: 43_200_000,
              sameSite: 'None',
              secure: true,
              opaque: null,
            },
            minUp: 2,
            servers: [
              { kind: 'tcp', host: 'app-1.local', port: 3001, drain: false },
              { kind: 'tcp', host: '10.0.0.2', port: 3002, drain: false },
              { kind: 'tcp', host: '10.0.0.3', port: 3003, drain: true },
            ],
            healthCheck: {
              path: '/healthz',
              host: 'app.example.com',
              expect: [
                [200, 200],
                [301, 302],
              ],
              intervalMs: 500,
              timeoutMs: 2_000,
            },
            protocol: 'downstream',
            tls: { sni: 'app.internal', caFile: '/etc/app-ca.pem', certFile: null, keyFile: null },
            closeWhenDown: false,
            connectTimeoutMs: 500,
            idleTimeoutMs: 60_000,
            eject: { errors: 3, forMs: 60_000 },
          },
          remotePools: [
            {
              site: 'west',
              cluster: 'remote_pool',
              opsUrl: 'https://west-ops.example.com:9003',
              redirect: 'https://shop.west.example.com',
              cookie: {
                name: 'DDVHSLLQ',
                path: '/',
                domain: null,
                also: [],
                ttlMs: null,
                sameSite: 'Lax',
                secure: false,
              },
              minUp: 3,
              servers: [{ kind: 'tcp', host: 'west.example.com', port: 443 }],
              healthCheck: { host: 'west.example.com', intervalMs: 2_000, timeoutMs: 3_000, unhealthy: 2 },
              protocol: 'http2',
              idleTimeoutMs: 10_000,
              tls: {
                sni: 'west.example.com',
                caFile: '/etc/ca.pem',
                certFile: '/etc/cert.pem',
                keyFile: '/etc/key.pem',
              },
            },
            {
              site: 'north',
              cluster: 'north_pool',
              opsUrl: null,
              redirect: null,
              cookie: {
                name: 'NNPOLEXY',
                path: '/',
                domain: null,
                also: [],
                ttlMs: null,
                sameSite: 'Strict',
                secure: false,
              },
              minUp: 1,
              servers: [{ kind: 'tcp', host: '10.3.0.1', port: 80 }],
              healthCheck: { host: null, intervalMs: 1_000, timeoutMs: 1_000, unhealthy: 3 },
              protocol: 'auto',
              idleTimeoutMs: 25_000,
              tls: null,
            },
          ],
        },
      ],
      envoy: {
        admin: { kind: 'unix', path: '/run/envoy/admin.sock' },
        listen: { kind: 'tcp', host: '0.0.0.0', port: 8080 },
        listenTls: { certFile: '/etc/edge.pem', keyFile: '/etc/edge.key', clientCaFile: null },
        hopListen: { kind: 'tcp', host: '0.0.0.0', port: 8443 },
        hopListenTls: { certFile: '/etc/hop.pem', keyFile: '/etc/hop.key', clientCaFile: '/etc/sites.pem' },
        hopListenOnly: true,
        defaultHost: 'app.example.com',
        sidecars: [
          { kind: 'unix', path: '/run/site-persistence/ext_proc.sock' },
          { kind: 'tcp', host: '127.0.0.1', port: 9102 },
        ],
        sidecarTls: null,
        configDir: null,
        secretsDir: '/etc/envoy/secrets',
        overlay: { kind: 'overlay', file: 'edge-extra.yaml', text: '', content: {} },
        version: '1.36',
        fastPath: true,
        retryOnReset: false,
        streamIdleTimeoutMs: 0,
        limits: { connections: 1_000, heapBytes: 1_610_612_736 },
        trustedHops: 1,
        proxyProtocol: true,
        nodeId: 'east-edge-2',
        headersWithUnderscores: 'reject',
        normalizePath: false,
        mergeSlashes: true,
        pathWithEscapedSlashes: 'unescape_and_redirect',
      },
    });
  });

  test.each<[string, string]>([
    ['a cookie written as a mapping', MINIMAL.replace('KVAAVROI', '{ name: KVAAVROI }')],
    ['null where there may be nothing', `${MINIMAL}    tls: null\n`],
    ['an empty mapping', `${MINIMAL}health: {}\nenvoy: {}\n`],
    ['JSON', JSON.stringify(MINIMAL_AS_JSON)],
    ['CRLF line ends', MINIMAL.replaceAll('\n', '\r\n')],
    ['a byte order mark', `\ufeff${MINIMAL}`],
    ['a document between --- and ...', `---\n${MINIMAL}...\n`],
    ['a YAML directive', `%YAML 1.2\n---\n${MINIMAL}`],
    [
      'an anchor and its alias',
      MINIMAL.replace('cookie: KVAAVROI', 'cookie: { name: KVAAVROI, path: &path / }').replace(
        'cookie: DDVHSLLQ',
        'cookie: { name: DDVHSLLQ, path: *path }',
      ),
    ],
    ['a key in quotes', MINIMAL.replace('site: east', '"site": "east"')],
  ])('%s', (_, text) => {
    expect(parseConfig(text, 'site.yaml')).toEqual(MINIMAL_CONFIG);
  });

  test('8 remote pools', () => {
    const more = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(
      (name) => `  - { site: ${name}, cluster: ${name}, cookie: ${name} }\n`,
    );
    expect(onlyApplication(MINIMAL + more.join('')).remotePools).toHaveLength(8);
  });

  test('TLS to the sidecar, as Envoy and the sidecar need it', () => {
    const { listenTls, envoy } = parseConfig(WITH_TLS, 'site.yaml');
    expect(listenTls).toEqual({ certFile: '/c.pem', keyFile: '/c.key', clientCaFile: '/ca.pem' });
    expect(envoy.sidecarTls).toEqual({ sni: 'sidecar.test', caFile: '/ca.pem', certFile: '/e.pem', keyFile: '/e.key' });
  });

  test.each([
    ['127.0.0.1', 'localhost', '127.9.8.7'].map((host) => `listen: ${host}:9002\n`),
    ['listen: "[::1]:9002"\n', 'ops_listen: unix:/run/ops.sock\n', 'listen: "[::ffff:127.0.0.1]:9002"\n'],
    [
      'listen: 0.0.0.0:9002\ninsecure: true\n',
      'ops_listen: 10.0.0.1:9003\nops_listen_tls: { cert_file: c, key_file: k, client_ca_file: a }\n',
    ],
  ])('a listener that is safe, or said to be insecure: %s', (...files) => {
    for (const file of files) expect(() => parseConfig(MINIMAL + file, 'site.yaml')).not.toThrow();
  });

  test("the file's listen as the one sidecar, unless there are others", () => {
    const listen = `${MINIMAL}listen: unix:/run/x.sock\n`;
    expect(parseConfig(listen, 'f').envoy.sidecars).toEqual([{ kind: 'unix', path: '/run/x.sock' }]);
    expect(parseConfig(`${listen}envoy: { sidecars: [127.0.0.1:1] }\n`, 'f').envoy.sidecars).toEqual([
      { kind: 'tcp', host: '127.0.0.1', port: 1 },
    ]);
  });
});

describe('parseConfig() for rendering an Envoy config', () => {
  test('takes localhost for 127.0.0.1, and refuses an admin interface on another name', () => {
    const file = (admin: string) => withServers(`${MINIMAL}envoy: { admin: ${admin}, listen: localhost:8080 }\n`);
    const { envoy } = parseConfig(file('http://localhost:9901'), 'site.yaml', 'rendering');
    expect(envoy.admin).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 9901 });
    expect(envoy.listen).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 8080 });
    // The sidecar alone may ask an Envoy by its name.
    expect(() => parseConfig(file('http://envoy.test:9901'), 'site.yaml')).not.toThrow();
    expect(problemsOf(() => parseConfig(file('http://envoy.test:9901'), 'site.yaml', 'rendering'))).toEqual([
      { line: 11, message: expect.stringContaining('envoy.admin: must be an IP address') },
    ]);
  });

  test('needs the servers of each pool and envoy.listen, and names those that are missing', () => {
    expect(problemsOf(() => parseConfig(MINIMAL, 'site.yaml', 'rendering'))).toEqual([
      { line: 1, message: expect.stringContaining('envoy.listen: is missing') },
      { line: 2, message: expect.stringContaining('local_pool.servers: is missing') },
      { line: 6, message: expect.stringContaining('remote_pools[0].servers: is missing') },
    ]);
  });

  test('names what is missing in an application by its place in the list, whatever its name', () => {
    const application = (name: string, host: string) =>
      `  - { name: ${name}, hosts: [${host}], local_pool: { servers: ["127.0.0.1:1"], cookie: ${name}EAST },\n` +
      `      remote_pools: [{ site: west, cookie: ${name}WEST }] }\n`;
    const text = `site: east\nenvoy: { listen: "0.0.0.0:8080" }\napplications:\n${application('default', '"*"')}${application('shop', 'a.test')}`;
    expect(problemsOf(() => parseConfig(text, 'site.yaml', 'rendering'))).toEqual([
      { line: 5, message: expect.stringContaining('applications[0].remote_pools[0].servers: is missing') },
      { line: 7, message: expect.stringContaining('applications[1].remote_pools[0].servers: is missing') },
    ]);
  });

  test("needs Envoy's certificate for a sidecar with TLS", () => {
    const file = withServers(WITH_TLS);
    expect(() => parseConfig(file, 'site.yaml', 'rendering')).not.toThrow();
    const missing = (text: string) => problemsOf(() => parseConfig(text, 'site.yaml', 'rendering'));
    expect(missing(file.replace(/ {2}sidecar_tls: .*\n/, ''))).toEqual([
      { line: 12, message: expect.stringContaining('envoy.sidecar_tls: is missing: an Envoy config needs it') },
    ]);
    expect(missing(file.replace(', cert_file: /e.pem, key_file: /e.key', ''))).toEqual([
      { line: 14, message: expect.stringContaining('envoy.sidecar_tls.cert_file: is missing') },
    ]);
  });

  test('takes an empty list for a missing one', () => {
    const text = `${MINIMAL}    servers: []\nenvoy: { listen: 0.0.0.0:8080 }\n`.replace(
      'cookie: KVAAVROI',
      'cookie: KVAAVROI\n  servers: [127.0.0.1:3001]',
    );
    expect(problemsOf(() => parseConfig(text, 'site.yaml', 'rendering'))).toEqual([
      { line: 10, message: expect.stringContaining('remote_pools[0].servers: is missing') },
    ]);
  });
});

describe('loadConfig() refuses, with key and line,', async () => {
  const files = await readdir(BAD_CONFIGS);

  test.each(files)('%s', async (file) => {
    const expected = await expectedProblems(join(BAD_CONFIGS, file));
    const error = await errorOf(() => loadConfig(join(BAD_CONFIGS, file)));
    expect(error.problems).toEqual(expected);
    expectReadable(error, join(BAD_CONFIGS, file));
  });
});

describe('loadConfig() refuses', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'load-config-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test.each<[string, string, string]>([
    ['a file that is not there', 'missing.yaml', 'no such file: name the config file with --config FILE'],
    ['a folder', '.', 'is a directory: name a YAML file'],
    ['a file inside a file', 'file/site.yaml', 'cannot be read: ENOTDIR'],
    ['a link to itself', 'loop', 'cannot be read: ELOOP'],
    ['a name too long', 'a'.repeat(300), 'cannot be read: ENAMETOOLONG'],
    ['a name with a NUL', 'a\0b', 'cannot be read: '],
  ])('%s', async (_, name, message) => {
    await writeFile(join(folder, 'file'), MINIMAL);
    await rm(join(folder, 'loop'), { force: true });
    await symlink('loop', join(folder, 'loop'));
    const error = await errorOf(() => loadConfig(`${folder}/${name}`));
    expect(error.problems).toEqual([{ line: null, message: expect.stringContaining(message) }]);
    expect(error.message).toContain(`${folder}/${name}: `);
  });

  test.skipIf(process.getuid?.() === 0)('a file that may not be read', async () => {
    const file = join(folder, 'secret.yaml');
    await writeFile(file, MINIMAL, { mode: 0o000 });
    const error = await errorOf(() => loadConfig(file));
    expect(error.message).toBe(`${file}: no permission to read it`);
  });

  test.each<[string, Buffer, number]>([
    ['UTF-16', Buffer.from(`\ufeff${MINIMAL}`, 'utf16le'), 1],
    ['a text cut in the middle of a letter', Buffer.from(`${MINIMAL}# caf\u00e9`).subarray(0, -1), 9],
    ['a byte that is no UTF-8 in the last line', Buffer.concat([Buffer.from(MINIMAL), Buffer.from([0xff, 0x0a])]), 9],
  ])('%s, which is not UTF-8', async (_, bytes, line) => {
    const file = join(folder, 'bytes.yaml');
    await writeFile(file, bytes);
    const error = await errorOf(() => loadConfig(file));
    expect(error.problems).toEqual([{ line, message: expect.stringContaining('UTF-8') }]);
  });

  test.each<[string, string | Buffer, string]>([
    ['that is not YAML', 'a: b\nc: [\n', 'extra.yaml:2: not valid YAML'],
    ['that is not a mapping', '- a', 'extra.yaml:1: must be a YAML mapping that starts with static_resources:'],
    ['that is not UTF-8', Buffer.from([0x61, 0x0a, 0xff]), 'extra.yaml:2: is not UTF-8 text'],
    [
      'that is too large',
      Buffer.alloc(600 * 1024, 'a'),
      'site.yaml:9: envoy.overlay: "extra.yaml" is too large: an overlay has',
    ],
  ])('an overlay %s', async (_, content, message) => {
    const file = join(folder, 'site.yaml');
    await writeFile(file, `${MINIMAL}envoy: { overlay: extra.yaml }\n`);
    await writeFile(join(folder, 'extra.yaml'), content);
    expect((await errorOf(() => loadConfig(file))).message).toContain(`${folder}/${message}`);
  });

  test.each<[string, string | Buffer, string]>([
    ['without a key', '\n\n', 'cookie.key:1: there is no key: make one with "openssl rand -hex 32"'],
    ['with a key that is too short', `${KEY}\nsecret\n`, 'cookie.key:2: is too short: a key has at least 22 bytes'],
    ['with one key twice', `${KEY}\n\n ${KEY}\r\n`, 'cookie.key:3: is the same key as line 1'],
    ['with three keys', `${KEY}\n${KEY}2\n${KEY}3\n`, 'cookie.key:3: is a key too many: at most 2, the new one first'],
    ['that is not UTF-8', Buffer.from([0x61, 0x0a, 0xff]), 'cookie.key:2: is not UTF-8 text'],
  ])('a key file %s', async (_, content, message) => {
    const file = join(folder, 'site.yaml');
    await writeFile(file, WITH_OPAQUE_COOKIE);
    await writeFile(join(folder, 'cookie.key'), content);
    const error = await errorOf(() => loadConfig(file));
    expect(error.message).toContain(`${folder}/${message}`);
    // What is said of a key goes to logs.
    expect(error.message).not.toContain(KEY);
  });

  test('an empty file', async () => {
    const file = join(folder, 'empty.yaml');
    await writeFile(file, '');
    const error = await errorOf(() => loadConfig(file));
    expect(error.message).toBe(`${file}:1: must be a YAML mapping that starts with site: NAME`);
  });
});

describe('parseConfig() never throws anything but a ConfigError', () => {
  const OPENINGS = ['[', '{a: ', '- ', '- - ', '? ', '[{a: ', '"', '&a [', '!!seq [', '{? '];

  test.each(OPENINGS)('on %j nested deeply', (opening) => {
    for (const depth of [10, 100, 500, 1_000, 2_000, 10_000])
      expectReadableOrGood(`${MINIMAL}health: ${opening.repeat(depth)}`);
  });

  test('on mappings nested deeply by indentation', () => {
    const deep = Array.from({ length: 3_000 }, (_, depth) => `${' '.repeat(depth + 1)}a:\n`);
    expectReadableOrGood(`${MINIMAL}health:\n${deep.join('')}`);
  });

  test('on a list that holds itself', () => {
    expectReadableOrGood(`${MINIMAL}health: &a { hold_up: *a }\n`);
    expectReadableOrGood(`&a [*a]`);
  });

  test('on what looks like YAML', () => {
    fc.assert(fc.property(yamlLikeText, expectReadableOrGood), { numRuns: 700 });
  });

  test('on a good file with pieces changed', () => {
    fc.assert(fc.property(changedConfig, expectReadableOrGood), { numRuns: 500 });
  });

  test('on a broken text, of which it says no more than helps', () => {
    const error = configErrorOf(() => parseConfig(`${MINIMAL}health: ${'{a: '.repeat(5_000)}`, 'site.yaml'));
    expect(error.problems.length).toBeLessThanOrEqual(20);
  });
});

describe('ConfigError', () => {
  test('tells the first twenty, and how many more there are', () => {
    const found = (count: number) => Array.from({ length: count }, (_, at) => ({ line: at + 1, message: 'is wrong' }));
    expect(new ConfigError('f', found(20)).message.split('\n')).toHaveLength(20);
    expect(new ConfigError('f', found(21)).message.split('\n').at(-1)).toBe('and 1 more error');
    expect(new ConfigError('f', found(30), 5)).toMatchObject({ problems: found(20), more: 15 });
  });

  test('is short and readable, whatever is in its messages', () => {
    const message = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 2_000, size: 'max' }),
      fc.string({ unit: 'grapheme' }),
    );
    fc.assert(
      fc.property(fc.array(message, { maxLength: 40 }), (messages) => {
        const { problems, more } = new ConfigError(
          'f',
          messages.map((text) => ({ line: 1, message: text })),
        );
        expect(problems.length + more).toBe(messages.length);
        for (const { message: told } of problems) {
          expect(told.length).toBeLessThanOrEqual(600);
          expect(told).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
        }
      }),
    );
  });

  test('has a line for each problem, and their code', () => {
    const error = new ConfigError('site.yaml', [
      { line: null, message: 'cannot be read' },
      { line: 3, message: 'site: is missing' },
    ]);
    expect(error.message).toBe('site.yaml: cannot be read\nsite.yaml:3: site: is missing');
    expect(error).toMatchObject({ name: 'ConfigError', code: 'CONFIG_INVALID' });
  });

  test('cuts a long value short', () => {
    const [problem] = problemsOf(() => parseConfig(`${MINIMAL}listen: ${'x'.repeat(10_000)}\n`, 'site.yaml'));
    expect(problem?.message.length).toBeLessThan(200);
  });
});

function expectReadableOrGood(text: string): void {
  let config: Config;
  try {
    config = parseConfig(text, 'site.yaml', 'rendering');
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expectReadable(error, 'site.yaml');
    for (const { line } of error.problems) expect(line).toBeLessThanOrEqual(text.split('\n').length);
    return;
  }
  expect(onlyApplication(config).remotePools.length).toBeGreaterThan(0);
}

/** One line for each problem, without control characters, a stack trace or words of the libraries behind it. */
function expectReadable(error: ConfigError, file: string): void {
  expect(error.problems).not.toHaveLength(0);
  for (const { line, message } of error.problems) {
    expect(line).toBeGreaterThanOrEqual(1);
    expect(message).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]| {4}at |undefined|\[object|Invalid input|YAML\.|call stack/u);
  }
  const told = error.problems.map(({ line, message }) => `${file}:${line}: ${message}`);
  const more = error.more === 0 ? [] : [`and ${error.more} more ${error.more === 1 ? 'error' : 'errors'}`];
  expect(error.message.split('\n')).toEqual([...told, ...more]);
  expect(error.problems.length).toBeLessThanOrEqual(20);
  for (const { message } of error.problems) expect(message.length).toBeLessThanOrEqual(600);
}

/** The `# expect: LINE: PART OF THE MESSAGE` lines that a file starts with. */
async function expectedProblems(file: string): Promise<object[]> {
  const problems: object[] = [];
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    const [, number, message] = /^# expect: (\d+): (.+)$/.exec(line) ?? [];
    if (number === undefined || message === undefined) break;
    problems.push({ line: Number(number), message: expect.stringContaining(message) });
  }
  return problems;
}

function problemsOf(parse: () => unknown): readonly ConfigProblem[] {
  return configErrorOf(parse).problems;
}

function configErrorOf(parse: () => unknown): ConfigError {
  try {
    parse();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('it found nothing wrong');
}

async function errorOf(load: () => Promise<unknown>): Promise<ConfigError> {
  const outcome = await load().then(
    () => 'it found nothing wrong',
    (error: unknown) => error,
  );
  if (outcome instanceof ConfigError) return outcome;
  throw outcome;
}
