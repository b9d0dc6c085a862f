import { execFile } from 'node:child_process';
import { chmod, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parse, stringify } from 'yaml';
import type { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { parseAddress } from '../../src/config/address.ts';
import { describeAdmin } from '../../src/envoy-admin/admin-client.ts';
import { type SiteStateReport, siteStateSchema } from '../../src/ops/state.ts';
import { TestCa } from '../support/certificates.ts';
import type { AdminMood, FakeAdmin } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';
import { type CliResult, linesOf, runCli, STACK_LINE, startServe } from './cli-process.ts';
import { EXT_PROC, ExtProcClient } from './ext-proc-client.ts';
import { eastFile, parseLogLine, type SiteFile, startAdmin, temporaryDirectory, writeSiteFile } from './site.ts';

const execute = promisify(execFile);

const COMMANDS = ['serve', 'envoy', 'check', 'doctor', 'status', 'drain', 'undrain', 'hold', 'release'];
/** What a command must be given. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  hold: ['west', '--reason', 'rehearsal'],
  release: ['west'],
};
const withArguments = (command: string) => [command, ...(ARGUMENTS[command] ?? [])];

/** A config file that is fine, with all that an Envoy config needs; nothing runs behind it. */
const DEMO_SITE = 'envoy/east.yaml';

/** What a command says that failed: its lines on stderr, nothing on stdout, no stack trace. */
function complaint(result: CliResult | undefined, code: number): string[] {
  if (result === undefined) throw new Error('no result');
  expect(result.stderr).not.toMatch(STACK_LINE);
  expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: '' });
  return linesOf(result.stderr);
}

/** What a command says that did well: its lines on stdout, and nothing on stderr. */
function answer(result: CliResult | undefined): string[] {
  if (result === undefined) throw new Error('no result');
  expect({ code: result.code, stderr: result.stderr }).toEqual({ code: 0, stderr: '' });
  return linesOf(result.stdout);
}

describe('wrong use exits 2 and says what would be right:', () => {
  test('no arguments', async () => {
    const lines = complaint(await runCli([]), 2);
    expect(lines[0]).toBe('Usage: site-persistence [options] [command]');
    for (const command of COMMANDS) expect(lines.join('\n')).toContain(`\n  ${command} `);
  });

  test('what no command is, or takes', async () => {
    const wrong: [string[], string][] = [
      [['serv'], "error: unknown command 'serv'"],
      [['check', '--wrong'], "error: unknown option '--wrong'"],
      [['--wrong'], "error: unknown option '--wrong'"],
      [['check', 'site.yaml'], "error: too many arguments for 'check'. Expected 0 arguments but got 1"],
      [['check', '--config'], "error: option '-c, --config <file>' argument missing"],
    ];
    const results = await Promise.all(wrong.map(([args]) => runCli(args)));
    for (const [index, [, expected]] of wrong.entries()) {
      const lines = complaint(results[index], 2);
      expect(lines[0]).toContain(expected);
      expect(lines.at(-1)).toContain('(see site-persistence --help)');
      expect(lines.length).toBeLessThanOrEqual(3);
    }
  });

  test('an address that is none', async () => {
    const wrong = [
      ['serve', '--listen', 'localhost'],
      ['serve', '--ops-listen', ':9003'],
      ['status', '--ops-listen', 'unix:relative.sock'],
    ];
    const results = await Promise.all(wrong.map((args) => runCli([...args, '-c', DEMO_SITE])));
    expect(results.map((result) => complaint(result, 2))).toEqual(
      wrong.map(([, flag, value]) => [expect.stringContaining(`${flag}: "${value}" is not an address:`)]),
    );
  });
});

describe('help', () => {
  test('of the program names each command and the exit codes', async () => {
    const text = answer(await runCli(['--help'])).join('\n');
    for (const command of COMMANDS) expect(text).toContain(`\n  ${command} `);
    expect(text).toContain('Exit codes: 0 fine, 1 it failed, 2 wrong use or bad config.');
  });

  test('of each command names its options', async () => {
    const mentions: Record<string, string[]> = {
      serve: ['--config <file>', '--listen <address>', '--ops-listen <address>', 'LOG_LEVEL'],
      envoy: ['--config <file>', 'envoy -c envoy.yaml'],
      check: ['--config <file>'],
      doctor: ['--config <file>', '--json', 'Exit codes: 0'],
      status: ['--config <file>', '--ops-listen <address>', '--json', '--ready'],
      drain: ['--config <file>', '--ops-listen <address>', '--for <duration>', '30m'],
      undrain: ['--config <file>', '--ops-listen <address>'],
      hold: ['<site> [applications...]', '--reason <text>', '--for <duration>', '--force', 'Exit codes: 0'],
      release: ['<site> [applications...]', '--ops-listen <address>'],
    };
    const results = await Promise.all(Object.keys(mentions).map((command) => runCli([command, '--help'])));
    for (const [index, [command, expected]] of Object.entries(mentions).entries()) {
      const text = answer(results[index]).join('\n');
      expect(text).toContain(`Usage: site-persistence ${command} [options]`);
      for (const mention of expected) expect(text).toContain(mention);
    }
    expect(await runCli(['help', 'serve'])).toEqual(results[0]);
  });

  test('--version is the version of the package', async () => {
    expect(answer(await runCli(['--version']))).toEqual([expect.stringMatching(/^\d+\.\d+\.\d+$/)]);
  });
});

describe('a config file', () => {
  test('that is not there', async () => {
    const cwd = await temporaryDirectory();
    const hint = 'no such file: name the config file with --config FILE';
    const results = await Promise.all(
      COMMANDS.map((command) => runCli([...withArguments(command), '-c', 'no.yaml'], { cwd })),
    );
    for (const result of results) expect(complaint(result, 2)).toEqual([`no.yaml: ${hint}`]);
    expect(complaint(await runCli(['serve'], { cwd }), 2)).toEqual([`site.yaml: ${hint}`]);
  });

  test('that is a directory', async () => {
    const directory = await temporaryDirectory();
    expect(complaint(await runCli(['serve', '-c', directory]), 2)).toEqual([
      `${directory}: is a directory: name a YAML file`,
    ]);
  });

  test('with several mistakes has each on a line of its own, with its place', async () => {
    const file = await writeSiteFile(
      [
        'site: east',
        'listen: 9002',
        'local_pool:',
        '  cluster: "local pool"',
        '  cookie: KVAAVROI',
        'remote_pools:',
        '  - site: west',
        '    cluster: remote_pool',
        '    cookie: DDVHSLLQ',
        'halth: {}',
      ].join('\n'),
    );
    for (const result of await Promise.all(
      COMMANDS.map((command) => runCli([...withArguments(command), '--config', file])),
    )) {
      expect(complaint(result, 2).map((line) => line.split(' ').slice(0, 2).join(' '))).toEqual([
        `${file}:2: listen:`,
        `${file}:4: local_pool.cluster:`,
        `${file}:10: halth:`,
      ]);
    }
  });

  test('that is no YAML', async () => {
    const file = await writeSiteFile('site: "east\nlisten: 1\n');
    for (const line of complaint(await runCli(['check', '-c', file]), 2)) expect(line).toMatch(/site\.yaml:\d+: /);
  });

  test('that is fine: check says what it means', async () => {
    expect(answer(await runCli(['check', '-c', DEMO_SITE]))).toEqual([
      `${DEMO_SITE} is fine.`,
      'site east: pool local_pool, cookie KVAAVROI, up with 1 or more servers',
      'other site west: pool remote_pool, cookie DDVHSLLQ, up with 1 or more servers',
      "ext_proc on 127.0.0.1:9002, Envoy's admin interface at http://127.0.0.1:9901",
      'a session whose owner is down: adopt; with both cookies: remote',
    ]);
  });

  test.each([
    ['1.40', ''],
    ['1.38', "; Envoy 1.38 counts it by the machine's uptime, so that two Envoys of one site disagree"],
  ])('that has a cookie with a ttl: check says what that does with Envoy %s', async (version, clock) => {
    const file = await writeSiteFile(
      [
        'site: east',
        'local_pool: { cluster: local_pool, cookie: { name: KVAAVROI, ttl: 1h } }',
        'remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ }]',
        `envoy: { version: "${version}" }`,
        '',
      ].join('\n'),
    );
    expect(answer(await runCli(['check', '-c', file]))).toContain(
      `note: KVAAVROI has a ttl: 3600 s after it was set a session gets a new server, in use or not${clock}`,
    );
  });
});

test('check says that there are fewer servers than min_up', async () => {
  const file = await writeSiteFile(
    [
      'site: east',
      'local_pool: { cookie: KVAAVROI, min_up: 3, servers: [10.0.0.11:80, 10.0.0.12:80] }',
      'remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ }]',
      '',
    ].join('\n'),
  );
  expect(answer(await runCli(['check', '-c', file]))).toContain(
    'note: local_pool.min_up is 3, and it has 2 servers: it is never up',
  );
});

test('check warns, with the line, of a redirect to where browsers do not take the cookie', async () => {
  const file = await writeSiteFile(
    [
      'site: east',
      'local_pool: { cookie: KVAAVROI }',
      'remote_pools:',
      '  - { site: west, cluster: west, cookie: { name: DDVHSLLQ, domain: Example.com }, redirect: "https://west.example.com" }',
      '  - site: north',
      '    cluster: north',
      '    cookie: NORTH',
      '    redirect: https://north.example.com',
      '  - { site: south, cluster: south, cookie: { name: SOUTH, domain: shop.example.com }, redirect: "https://south.example.com" }',
      '',
    ].join('\n'),
  );
  const fix = "Give every site's cookie a domain that covers all of their names, or leave redirect out";
  expect(answer(await runCli(['check', '-c', file])).filter((line) => line.startsWith('warning'))).toEqual([
    `warning: ${file}:8: remote_pools[1].redirect: cookie NORTH has no domain, so a browser sends it to no other host: clients arrive at north.example.com without their session. ${fix}`,
    `warning: ${file}:9: remote_pools[2].redirect: cookie SOUTH is for shop.example.com only: clients arrive at south.example.com without their session. ${fix}`,
  ]);
});

test('check says which servers drain', async () => {
  const file = await writeSiteFile(
    [
      'site: east',
      'local_pool: { cookie: KVAAVROI, servers: [10.0.0.11:80, { address: 10.0.0.12:80, drain: true }] }',
      'remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ }]',
      '',
    ].join('\n'),
  );
  expect(answer(await runCli(['check', '-c', file]))).toContain('note: 10.0.0.12:80 drains: it gets no new sessions');
});

test('check says that a cookie is opaque, what still counts, and who can read its key', async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, 'site.yaml');
  const keyFile = join(directory, 'cookie.key');
  await writeFile(keyFile, `${'n'.repeat(32)}\n${'o'.repeat(32)}\n`);
  await writeFile(
    file,
    stringify({
      site: 'east',
      local_pool: {
        ...{ cluster: 'local_pool', servers: ['10.0.0.11:80'] },
        cookie: { name: 'KVAAVROI', opaque: { key_file: 'cookie.key' } },
      },
      remote_pools: [{ site: 'west', cluster: 'west', cookie: 'DDVHSLLQ' }],
    }),
  );
  const note = `note: KVAAVROI is opaque, by the key in ${keyFile}; the old key and plain values still accepted`;
  const warning = `warning: ${file}:9: local_pool.cookie.opaque.key_file: every user can read ${keyFile}, and so tell servers by values: chmod o= ${keyFile}`;
  await chmod(keyFile, 0o644);
  expect(answer(await runCli(['check', '-c', file]))).toEqual(expect.arrayContaining([note, warning]));
  await chmod(keyFile, 0o640);
  expect(answer(await runCli(['check', '-c', file]))).not.toContain(warning);
});

test('check says what TLS means, and names a certificate with which the sidecar would not start', async () => {
  const directory = await temporaryDirectory();
  const ca = await TestCa.create(directory);
  const { certFile, keyFile } = await ca.issue('sidecar');
  const tls = { cert_file: certFile, key_file: keyFile, client_ca_file: ca.certFile };
  const file = {
    site: 'east',
    listen_tls: tls,
    local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI' },
    remote_pools: [{ site: 'west', cluster: 'west', cookie: 'DDVHSLLQ', tls: { sni: 'west.test' } }],
    envoy: {
      listen_tls: { cert_file: '/www.pem', key_file: '/www.key' },
      hop_listen: '0.0.0.0:8443',
      hop_listen_tls: tls,
    },
  };
  const configFile = await writeSiteFile(file);
  const lines = answer(await runCli(['check', '-c', configFile]));
  expect(lines.slice(-2)).toEqual([
    expect.stringMatching(/^listen: TLS, clients need a certificate signed by \S+\/ca\.pem; its own expires \d{4}-/),
    'Envoy as printed: TLS for clients, with /www.pem; other sites, with their certificates, at 0.0.0.0:8443; TLS to west',
  ]);
  await ca.issue('sidecar', { days: -1 });
  expect(complaint(await runCli(['check', '-c', configFile]), 2)).toEqual([
    expect.stringMatching(/sidecar\.pem \(listen_tls\.cert_file\): the certificate has expired on/),
  ]);
});

describe('envoy', () => {
  test('prints an Envoy bootstrap', async () => {
    const bootstrap: unknown = parse(answer(await runCli(['envoy', '-c', DEMO_SITE])).join('\n'));
    expect(Object.keys(Object(bootstrap))).toEqual(expect.arrayContaining(['admin', 'static_resources']));
  });

  test('names all that is missing for it', async () => {
    const file = await writeSiteFile(await eastFile(await startAdmin()));
    const lines = complaint(await runCli(['envoy', '-c', file]), 2);
    expect(lines.map((line) => line.replace(/^.*?:\d+: /, '').split(':')[0])).toEqual([
      'local_pool.servers',
      'remote_pools[0].servers',
      'envoy.listen',
    ]);
  });

  test('writes what Envoy follows, and prints what leads there', async () => {
    const directory = join(await temporaryDirectory(), 'watched');
    const config = (envoy: SiteFile) =>
      writeSiteFile({
        site: 'east',
        local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers: ['127.0.0.1:1'] },
        remote_pools: [{ site: 'west', cluster: 'a/b.c', cookie: 'DDVHSLLQ', servers: ['127.0.0.1:2'] }],
        envoy: { listen: '127.0.0.1:3', ...envoy },
      });
    const file = await config({ config_dir: directory });
    const { code, stdout, stderr } = await runCli(['envoy', '-c', file]);
    expect([code, stderr]).toEqual([0, '']);
    expect(parse(stdout)).toMatchObject({
      dynamic_resources: {
        cds_config: { path_config_source: { path: join(directory, 'clusters.yaml') } },
        lds_config: { path_config_source: { path: join(directory, 'listeners.yaml') } },
      },
    });
    expect(parse(stdout)).not.toHaveProperty('static_resources');
    const files = (await readdir(directory)).map((name) => name.replace(/_[0-9a-f]{8}\.yaml$/, '.yaml')).sort();
    expect(files).toEqual([
      'clusters.yaml',
      ...['a%2Fb%2Ec', 'a%2Fb%2Ec_closing', 'a%2Fb%2Ec_http2'].map((name) => `endpoints_${name}.yaml`),
      ...['local_pool', 'local_pool_or_elsewhere', 'site_persistence'].map((name) => `endpoints_${name}.yaml`),
      ...['listeners.yaml', 'routes_site_persistence_stand_in.yaml', 'routes_sites.yaml'],
    ]);

    // The same once more is nothing new; a file that is no longer of it goes, and what is somebody's own stays.
    const text = await readFile(join(directory, 'clusters.yaml'), 'utf8');
    await writeFile(join(directory, 'endpoints_gone.yaml'), text);
    await writeFile(join(directory, 'notes.txt'), '');
    await runCli(['envoy', '-c', file]);
    const again = await readdir(directory);
    expect([again.includes('endpoints_gone.yaml'), again.includes('notes.txt')]).toEqual([false, true]);

    const nowhere = await runCli(['envoy', '-c', await config({ config_dir: '/run/not/here' })]);
    expect(complaint(nowhere, 1)).toEqual([
      expect.stringMatching(/^\/run\/not\/here can't be written, for envoy\.config_dir: ENOENT/),
    ]);
  });

  test('writes the files by which Envoy watches its certificates, or says that it reads them once', async () => {
    const directory = await temporaryDirectory();
    const tls = { cert_file: '/c.pem', key_file: '/c.key' };
    const secrets_dir = join(directory, 'secrets');
    const config = (envoy: SiteFile) =>
      writeSiteFile({
        site: 'east',
        local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers: ['127.0.0.1:1'] },
        remote_pools: [
          { site: 'west', cluster: 'a/b.c', cookie: 'DDVHSLLQ', servers: ['127.0.0.1:2'], tls: { sni: 'w', ...tls } },
        ],
        envoy: { listen: '127.0.0.1:3', listen_tls: { ...tls, client_ca_file: '/ca.pem' }, ...envoy },
      });
    const plain = await runCli(['envoy', '-c', await config({})]);
    expect([plain.code, plain.stderr.split('\n').length]).toEqual([0, 2]);
    expect(plain.stderr).toContain('at its start only');

    const { code, stdout, stderr } = await runCli(['envoy', '-c', await config({ secrets_dir })]);
    expect([code, stderr]).toEqual([0, '']);
    const files = await readdir(secrets_dir);
    expect(files.sort()).toEqual([
      'cluster_a%2Fb%2Ec_certificate.yaml',
      'listener_edge_ca.yaml',
      'listener_edge_certificate.yaml',
    ]);
    // Each is referred to, by its name.
    for (const file of files) {
      const secret: unknown = parse(await readFile(join(secrets_dir, file), 'utf8'));
      expect(secret).toMatchObject({ resources: [{ name: file.replace(/\.yaml$/, '') }] });
      expect(stdout).toContain(join(secrets_dir, file));
    }
    expect(stdout).not.toContain('/c.pem');

    const elsewhere = join(directory, 'elsewhere');
    const config2 = await config({ secrets_dir: '/run/not/here' });
    const rendered = await runCli(['envoy', '-c', config2, '--secrets-to', elsewhere]);
    expect([rendered.code, rendered.stderr, (await readdir(elsewhere)).sort()]).toEqual([0, '', files]);
    expect(rendered.stdout).toContain('/run/not/here/listener_edge_ca.yaml');
    const missing = complaint(await runCli(['envoy', '-c', config2]), 1);
    expect(missing).toEqual([expect.stringMatching(/^\/run\/not\/here can't be written, .*ENOENT/)]);
    expect(complaint(await runCli(['envoy', '-c', await config({}), '--secrets-to', elsewhere]), 2)).toEqual([
      expect.stringContaining('needs envoy.config_dir or envoy.secrets_dir'),
    ]);
  });

  test('writes through no link that waits for such a file, and leaves nothing else there', async () => {
    const directory = await temporaryDirectory();
    const victim = join(directory, 'victim');
    const secrets = join(directory, 'secrets');
    const tls = { cert_file: '/c.pem', key_file: '/c.key' };
    const configFile = await writeSiteFile({
      site: 'east',
      local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers: ['127.0.0.1:1'] },
      remote_pools: [{ site: 'west', cluster: 'west', cookie: 'DDVHSLLQ', servers: ['127.0.0.1:2'] }],
      envoy: { listen: '127.0.0.1:3', listen_tls: tls, secrets_dir: secrets },
    });
    const name = 'listener_edge_certificate.yaml';
    await mkdir(secrets);
    await writeFile(victim, 'as it was');
    await symlink(victim, join(secrets, `${name}.new`));
    await symlink(victim, join(secrets, name));
    expect((await runCli(['envoy', '-c', configFile])).code).toBe(0);
    expect(await readFile(victim, 'utf8')).toBe('as it was');
    expect((await readdir(secrets)).sort()).toEqual([name, `${name}.new`]);
    const written = await lstat(join(secrets, name));
    expect([written.isFile(), written.mode & 0o777]).toEqual([true, 0o644]);

    // A directory in its place can't be replaced: what was written meanwhile goes.
    await rm(join(secrets, name));
    await mkdir(join(secrets, name));
    const { code, stderr } = await runCli(['envoy', '-c', configFile]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("can't be written, for envoy.secrets_dir")]);
    expect((await readdir(secrets)).sort()).toEqual([name, `${name}.new`]);
  });

  test('says in one line that such a file cannot be written, prints nothing, and exits 1', async () => {
    const file = join(await temporaryDirectory(), 'file');
    await writeFile(file, '');
    const configFile = await writeSiteFile({
      site: 'east',
      local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers: ['127.0.0.1:1'] },
      remote_pools: [{ site: 'west', cluster: 'west', cookie: 'DDVHSLLQ', servers: ['127.0.0.1:2'] }],
      envoy: { listen: '127.0.0.1:3', secrets_dir: `${file}/secrets` },
    });
    expect(complaint(await runCli(['envoy', '-c', configFile]), 1)).toEqual([
      expect.stringMatching(/\/file\/secrets can't be written, for envoy\.secrets_dir: ENOTDIR/),
    ]);
  });

  test.each(['head -n 1', 'true'])('may be cut short by its reader: envoy | %s', async (reader) => {
    const line = `set -o pipefail; "$0" "$1" envoy -c "$2" | ${reader}`;
    const { stderr } = await execute('bash', ['-c', line, process.execPath, CLI, DEMO_SITE]);
    expect(stderr).toBe('');
  });

  test('says in one line that its output cannot be written, and exits 1', async () => {
    const line = '"$0" "$1" envoy -c "$2" > /dev/full';
    const result = await execute('bash', ['-c', line, process.execPath, CLI, DEMO_SITE]).catch(
      (error: unknown) => error,
    );
    expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(/^[^\n]*ENOSPC[^\n]*\n$/) });
  });
});

interface Running {
  readonly admin: FakeAdmin;
  readonly serve: ManagedProcess;
  readonly configFile: string;
  readonly listen: string;
  readonly opsListen: string;
  /** Runs a command that speaks to this sidecar. */
  run(command: string, ...rest: string[]): Promise<CliResult>;
}

/** A sidecar process for the running test, once it has said how its pools are. */
async function startRunning(changes: SiteFile = {}, prepare: (admin: FakeAdmin) => void = () => {}): Promise<Running> {
  const admin = await startAdmin();
  prepare(admin);
  const file = await eastFile(admin, changes);
  const configFile = await writeSiteFile(file);
  const serve = await startServe(configFile);
  await serve.waitForLine(/remote_pool/);
  return {
    admin,
    serve,
    configFile,
    listen: String(file.listen),
    opsListen: String(file.ops_listen),
    run: (command, ...rest) => runCli([command, '--config', configFile, ...rest]),
  };
}

/** What is logged of a drain. */
function drainLines({ serve }: Running): string[] {
  const lines = serve.lines.map(parseLogLine).filter(({ message }) => message.includes('draining'));
  return lines.map(({ level, message }) => `${level} ${message}`);
}

async function stateOf({ opsListen }: Running): Promise<SiteStateReport> {
  return siteStateSchema.parse(await (await fetch(`http://${opsListen}/api/state`)).json());
}

const ISO_TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;

/** Times and ages replaced by words, so that the rest can be compared. */
function withoutTimes(lines: readonly string[]): string[] {
  return lines.map((line) => line.replaceAll(ISO_TIME, 'TIME').replace(/\d+\.\d s ago/, 'AGE ago'));
}

describe('status', () => {
  test('says how the site stands, and of each server that is down why', async () => {
    const running = await startRunning(
      { local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', min_up: 2 } },
      (admin) => admin.setPool('local_pool', ['up', 'failed health check', 'ejected']),
    );
    const lines = withoutTimes(answer(await running.run('status')));
    // Why a health check fails is found out beside the poll.
    expect(lines.filter((line) => !line.includes('health check of'))).toEqual([
      "East's pool is down: west serves its clients.",
      'site east: not draining',
      'health known (polled AGE ago)',
      'fast path off: requests for this site ask the sidecar while its local pool is down or moves its sessions away',
      '  local_pool (east)   down  1 of 3 servers up, needs 2',
      expect.stringMatching(/^ {4}127\.0\.0\.1:3002: down, failed active health check/),
      '    127.0.0.1:3003: down, failed outlier check',
      '    127.0.0.1:3001: up',
      '  remote_pool (west)  up    1 of 1 servers up',
      '    127.0.0.1:3001: up',
      'decisions a second: none yet',
      expect.stringMatching(/^sessions: 0 known\/s, /),
      'last changes:',
      '  TIME  pool remote_pool (west) is up: 1 of 1 servers up',
      expect.stringMatching(/^ {2}TIME {2}pool local_pool \(east\) is down: 1 of 3 servers up, min_up 2; 127/),
    ]);
  });

  test('--json says the same to programs', async () => {
    const running = await startRunning({}, (admin) => admin.setPool('local_pool', ['up', 'ejected']));
    const state = siteStateSchema.parse(JSON.parse(answer(await running.run('status', '--json')).join('\n')));
    expect(state).toMatchObject({
      site: 'east',
      health_known: true,
      draining: false,
      draining_since: null,
      draining_until: null,
      pools: [
        {
          site: 'east',
          cluster: 'local_pool',
          up: true,
          known_to_envoy: true,
          servers_up: 1,
          servers_total: 2,
          min_up: 1,
        },
        { site: 'west', cluster: 'remote_pool', up: true, servers_up: 1, servers_total: 1 },
      ],
    });
    expect(state.pools[0]?.hosts).toEqual([
      { address: '127.0.0.1:3001', up: true, draining: false, why: '' },
      { address: '127.0.0.1:3002', up: false, draining: false, why: 'failed outlier check' },
    ]);
  });

  test('says what is not known: a cluster, or health as a whole', async () => {
    const running = await startRunning({ health: { poll_interval: '20ms', stale_after: '1s' } }, (admin) =>
      admin.removePool('remote_pool'),
    );
    expect(answer(await running.run('status'))).toContain(
      '  remote_pool (west)  down  Envoy has no cluster of this name',
    );
    running.admin.mood = 'closing';
    await running.serve.waitForLine(/health is unknown/);
    const lines = withoutTimes(answer(await running.run('status')));
    expect(lines[0]).toBe('Health is not known: Envoy decides by its own health checks.');
    expect(lines).toContain('health unknown: no opinion, Envoy decides (polled AGE ago)');
  });

  test('says of a pool with its servers up why it is not up', async () => {
    const held = await startRunning({ health: { poll_interval: '20ms', stale_after: '4s', hold_up: '1h' } }, (admin) =>
      admin.setPool('remote_pool', ['ejected']),
    );
    held.admin.setPool('remote_pool', ['up']);
    await held.serve.waitForLine(/held back/);
    expect(answer(await held.run('status'))).toContainEqual(
      expect.stringMatching(
        /^ {2}remote_pool \(west\) {2}down {2}1 of 1 servers up, held back by hold_up, 3[56]\d\d s left$/,
      ),
    );

    const unknown = await startRunning({ health: { poll_interval: '20ms', stale_after: '1s' } });
    unknown.admin.mood = 'closing';
    await unknown.serve.waitForLine(/health is unknown/);
    expect(answer(await unknown.run('status'))).toContainEqual(
      expect.stringMatching(/^ {2}remote_pool \(west\) {2}unknown {2}/),
    );
  });

  test('says so where Envoy was never there', async () => {
    const admin = await startAdmin();
    await admin.close();
    const configFile = await writeSiteFile(await eastFile(admin));
    await startServe(configFile);
    expect(answer(await runCli(['status', '-c', configFile]))).toEqual([
      'Health is not known: Envoy decides by its own health checks.',
      'site east: not draining',
      'health unknown: no opinion, Envoy decides (never polled)',
      'fast path off: requests for this site ask the sidecar while its local pool is down or moves its sessions away',
      '  local_pool (east)   unknown  not seen yet',
      '  remote_pool (west)  unknown  not seen yet',
      'decisions a second: none yet',
      expect.stringMatching(/^sessions: 0 known\/s, /),
      'last changes:',
      expect.stringContaining("  cannot read health from Envoy's admin interface at "),
    ]);
    expect(complaint(await runCli(['status', '--ready', '-c', configFile]), 1)).toEqual([
      "not ready: health is not known: no valid answer from Envoy's admin interface yet",
    ]);
  });

  test('--ready says only whether the sidecar decides and health is known', async () => {
    const running = await startRunning();
    const envoy = new ExtProcClient(parseAddress(running.listen));
    onTestFinished(() => envoy.close());
    expect(await envoy.health(EXT_PROC)).toBe('SERVING');
    expect(withoutTimes(answer(await running.run('status', '--ready')))).toEqual([
      'ready: health known (polled AGE ago)',
    ]);
    expect(complaint(await running.run('status', '--ready', '--json'), 2)[0]).toMatch(/--json.*--ready/);
    await running.serve.stop('SIGKILL');
    expect(complaint(await running.run('status', '--ready'), 1)[0]).toMatch(/^no sidecar answers at /);
  });
});

describe('drain', () => {
  test('goes on until undrain, and each is said by the command, by status and in the log', async () => {
    const running = await startRunning();
    expect(withoutTimes(answer(await running.run('drain')))[0]).toBe('site east: draining since TIME, until undrain');
    expect((await stateOf(running)).draining).toBe(true);
    const json = siteStateSchema.parse(JSON.parse((await running.run('status', '--json')).stdout));
    expect(json).toMatchObject({ draining: true, draining_since: expect.any(String), draining_until: null });

    expect(answer(await running.run('undrain'))[0]).toBe('site east: not draining');
    expect(answer(await running.run('undrain'))[0]).toBe('site east: not draining');
    expect((await stateOf(running)).draining).toBe(false);
    expect(drainLines(running)).toEqual([
      expect.stringMatching(/^info site east: deciding on .*, not draining$/),
      'warn site east is draining, until undrain: its status URI says DOWN to the world',
      'info site east is no longer draining: undrain was asked for',
    ]);
  });

  test('--for ends by itself', async () => {
    const running = await startRunning();
    const from = Date.now();
    const [line = ''] = answer(await running.run('drain', '--for', '1.5s'));
    const askedBy = Date.now();
    expect(withoutTimes([line])).toEqual(['site east: draining since TIME, until TIME']);
    const [since = '', until = ''] = line.match(ISO_TIME) ?? [];
    expect(Date.parse(until) - Date.parse(since)).toBe(1_500);
    expect(Date.parse(since)).toBeGreaterThanOrEqual(from);
    expect(Date.parse(since)).toBeLessThanOrEqual(askedBy);

    await waitUntil(async () => !(await stateOf(running)).draining, { what: 'the drain to end' });
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(until));
    expect(Date.now() - Date.parse(until)).toBeLessThan(5_000);
    expect(drainLines(running).slice(1)).toEqual([
      expect.stringMatching(/^warn site east is draining, until 20\d\d-.*Z: its status URI says DOWN to the world$/),
      'info site east is no longer draining: its time is over',
    ]);
  });

  test('again changes only its end', async () => {
    const running = await startRunning();
    await running.run('drain', '--for', '1h');
    const first = await stateOf(running);
    await running.run('drain');
    expect(await stateOf(running)).toMatchObject({
      draining: true,
      draining_since: first.draining_since,
      draining_until: null,
    });
    await running.run('drain', '--for', '30m');
    const { draining_since, draining_until } = await stateOf(running);
    expect(draining_since).toBe(first.draining_since);
    expect(Date.parse(draining_until ?? '') - Date.now()).toBeGreaterThan(29 * 60_000);
  });

  test('--for something that is no duration is wrong use', async () => {
    const running = await startRunning();
    const wrong = ['soon', '5', '-1s', ''];
    const results = await Promise.all(wrong.map((duration) => running.run('drain', '--for', duration)));
    expect(results.map((result) => complaint(result, 2))).toEqual(
      wrong.map((duration) => [
        `--for "${duration}": is not a duration: write a number with a unit, such as 250ms, 3s or 30m`,
      ]),
    );
    expect((await stateOf(running)).draining).toBe(false);
  });

  test.each(['0s', '25d'])('--for "%s" is wrong use, running sidecar or not', async (duration) => {
    const configFile = await writeSiteFile(await eastFile(await startAdmin()));
    expect(complaint(await runCli(['drain', '-c', configFile, '--for', duration]), 2)).toEqual([
      expect.stringContaining('24d'),
    ]);
  });
});

describe('hold', () => {
  test('goes on until release, and each is said by the command, by status and in the log', async () => {
    const running = await startRunning();
    const [verdict, ...pools] = withoutTimes(answer(await running.run('hold', 'west', '--reason', 'rehearsal')));
    expect(verdict).toBe('East serves its clients; west is held: rehearsal.');
    expect(pools).toContain('  remote_pool (west)  held  1 of 1 servers up');
    expect(pools).toContain('    west held since TIME, until release (rehearsal)');
    expect((await stateOf(running)).pools[1]).toMatchObject({
      ...{ up: false, health_known: true, servers_up: 1, held_up: false, hold_up_left_ms: null },
      held: { since: expect.stringMatching(ISO_TIME), until: null, reason: 'rehearsal' },
    });
    expect(answer(await running.run('release', 'west'))[0]).toBe('East serves its clients.');
    expect(answer(await running.run('release', 'west'))[0]).toBe('west was not held');
    expect((await stateOf(running)).pools[1]).toMatchObject({ up: true, held: null });
    const lines = running.serve.lines.map(parseLogLine).filter(({ message }) => message.includes('held'));
    expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'warn west is held (rehearsal), until release: it counts as down here',
      'info west is no longer held: release was asked for',
    ]);
  });

  test('says what is wrong with it', async () => {
    const running = await startRunning({}, (admin) => admin.setPool('local_pool', ['failed health check']));
    const reason = ['--reason', 'rehearsal'] as const;
    expect(complaint(await running.run('hold', 'west'), 2)[0]).toMatch(/required option '--reason <text>'/);
    expect(complaint(await running.run('hold', 'west', '--reason', ' '), 2)).toEqual([
      '--reason: say why the site is held',
    ]);
    expect(complaint(await running.run('hold', 'west', ...reason, '--for', '0s'), 2)[0]).toMatch(/^--for "0s": .*24d/);
    expect(complaint(await running.run('hold', 'east', ...reason), 1)[0]).toMatch(
      /refused: site=east: is this site: drain and undrain are for it$/,
    );
    expect(complaint(await running.run('hold', 'north', ...reason), 1)[0]).toMatch(
      /refused: site=north: there is no such site in remote_pools; there are west$/,
    );
    expect(complaint(await running.run('hold', 'west', ...reason), 1)).toEqual([
      "refused: without west no site takes new clients: east's pool is down or drains, and no third site is up; --force does it all the same",
    ]);
    const forced = answer(await running.run('hold', 'west', ...reason, '--force'));
    expect(forced).toContain("No site is up: east's pool is down, and west is held (rehearsal): release west.");
    await running.serve.waitForLine(/"level":50.*No site is up: .*: release west"/);
  });
});

describe('a command for a sidecar', () => {
  test('that does not run', async () => {
    const file = await eastFile(await startAdmin());
    const configFile = await writeSiteFile(file);
    const where = `${file.ops_listen} \\(ops_listen\\)`;
    const expected = new RegExp(`^no sidecar answers at ${where}: .*ECONNREFUSED.*; is "serve" running\\?$`);
    const results = await Promise.all(
      ['status', 'drain', 'undrain', 'hold', 'release'].map((command) =>
        runCli([...withArguments(command), '-c', configFile]),
      ),
    );
    for (const result of results) expect(complaint(result, 1)).toEqual([expect.stringMatching(expected)]);
  });

  /** What `status` says of an ops listener that answers like this. */
  async function saidOf(mood: AdminMood): Promise<string[]> {
    const other = await startAdmin();
    other.mood = mood;
    const address = describeAdmin(other.address).replace('http://', '');
    const lines = complaint(await runCli(['status', '-c', DEMO_SITE, '--ops-listen', address]), 1);
    return lines.map((line) => line.replace(address, 'ADDRESS'));
  }

  test('that is something else', async () => {
    const moods: AdminMood[] = ['html', 'other json', 'not http', 'closing'];
    expect(await Promise.all(moods.map(saidOf))).toEqual([
      ['ADDRESS (ops_listen) is not a sidecar'],
      ['ADDRESS (ops_listen) is not a sidecar'],
      [expect.stringMatching(/^no sidecar answers at ADDRESS \(ops_listen\): Parse Error/)],
      [expect.stringMatching(/^no sidecar answers at ADDRESS \(ops_listen\): socket hang up/)],
    ]);
  });

  test("that is Envoy's admin interface, or something that is not well", async () => {
    expect(await Promise.all([saidOf('well'), saidOf('wrong status')])).toEqual([
      [expect.stringMatching(/^ADDRESS \(ops_listen\) is not a sidecar.*404/)],
      [expect.stringMatching(/^ADDRESS \(ops_listen\) is not a sidecar.*503/)],
    ]);
  });

  test('reaches it by --ops-listen, over a Unix socket or every address, too', async () => {
    const socket = `unix:${join(await temporaryDirectory(), 'ops.sock')}`;
    const admin = await startAdmin();
    const unixFile = await writeSiteFile(await eastFile(admin, { ops_listen: socket }));
    const [port] = await freePorts(1);
    const anyFile = await writeSiteFile(await eastFile(admin, { ops_listen: `0.0.0.0:${port}`, insecure: true }));
    await Promise.all([startServe(unixFile), startServe(anyFile)]);
    const results = await Promise.all([
      runCli(['status', '-c', unixFile]),
      runCli(['status', '-c', anyFile]),
      runCli(['status', '-c', DEMO_SITE, '--ops-listen', socket]),
    ]);
    for (const result of results) expect(answer(result)).toContain('site east: not draining');
  });
});

describe('the ops listener', () => {
  interface OpsAnswer {
    readonly status: number | undefined;
    readonly body: string;
  }

  async function ask(
    { opsListen }: Running,
    method: string,
    path: string,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<OpsAnswer> {
    const [host, port] = opsListen.split(':');
    return await new Promise((resolve, reject) => {
      const call = request({ host, port, method, path, headers, agent: false }, (response) => {
        let body = '';
        response.on('data', (part: Buffer) => {
          body += part.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode, body }));
      });
      call.on('error', reject);
      call.end();
    });
  }

  test('refuses what a page of another web site sends through a browser', async () => {
    const running = await startRunning();
    const origins = ['https://evil.example', 'http://localhost', 'null', `https://${running.opsListen}`];
    for (const origin of origins) {
      expect([origin, await ask(running, 'POST', '/drain', { origin })]).toEqual([
        origin,
        { status: 403, body: 'a request of another web site is refused\n' },
      ]);
    }
    expect((await stateOf(running)).draining).toBe(false);
    const own = await ask(running, 'POST', '/drain', { origin: `http://${running.opsListen}` });
    expect(own.status).toBe(200);
  });

  test('refuses what a page sends whose name was made to lead to loopback', async () => {
    const running = await startRunning();
    const rebound = { host: 'evil.example:9003', origin: 'http://evil.example:9003' };
    expect((await ask(running, 'POST', '/drain', rebound)).status).toBe(403);
  });

  test('says of a path that it does not have which there are', async () => {
    const running = await startRunning();
    const missing = ['GET /page', 'GET /drain', 'GET /undrain', 'POST /api/state', 'DELETE /drain', 'GET /metricz'];
    for (const route of missing) {
      const [method = '', path = ''] = route.split(' ');
      const { status, body } = await ask(running, method, path);
      expect(status).toBe(404);
      expect(body).toBe(
        `no ${route} here: GET /, /metrics, /livez, /readyz, /api/state, /api/history?application=shop and /events, POST /drain?for=30m&application=shop&evict&reason=TEXT&force, /undrain, /hold?site=west&reason=TEXT&for=2h&application=shop&force, /release?site=west and /reload\n`,
      );
    }
    expect((await stateOf(running)).draining).toBe(false);
  });

  test('refuses a time to drain that is none, or out of bounds', async () => {
    const running = await startRunning();
    const noDuration = 'is not a duration: write a number with a unit, such as 250ms, 3s or 30m';
    const outOfBounds = 'it must be more than 0 and at most 24d';
    const wrong = [
      ['soon', noDuration],
      ['', noDuration],
      ['0s', outOfBounds],
      ['25d', outOfBounds],
      [`${'9'.repeat(400)}d`, outOfBounds],
    ];
    for (const [duration, reason] of wrong) {
      const { status, body } = await ask(running, 'POST', `/drain?for=${duration}`);
      expect([status, body]).toEqual([400, `for=${duration}: ${reason}\n`]);
    }
    expect((await stateOf(running)).draining).toBe(false);
  });

  test('survives what is not HTTP, and paths that are none', async () => {
    const running = await startRunning();
    expect((await ask(running, 'GET', '//')).status).toBe(400);
    const [host = '', port = ''] = running.opsListen.split(':');
    const socket = connect(Number(port), host, () => socket.write('SSH-2.0-x\r\n\r\n'));
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
    expect((await stateOf(running)).site).toBe('east');
  });
});
