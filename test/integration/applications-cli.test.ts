import { describe, expect, test } from 'vitest';
import { type SiteStateReport, siteStateSchema } from '../../src/ops/state.ts';
import type { FakeAdmin } from '../support/fake-admin.ts';
import { type CliResult, linesOf, runCli, startServe } from './cli-process.ts';
import { eastFile, parseLogLine, type SiteFile, startAdmin, writeSiteFile } from './site.ts';

const SHOP = {
  name: 'shop',
  hosts: ['shop.example.com', '*.shop.example.com'],
  local_pool: { cookie: 'SHOPEAST' },
  remote_pools: [{ site: 'west', cookie: 'SHOPWEST' }],
};
const MAIL = {
  name: 'mail',
  hosts: ['mail.example.com'],
  local_pool: { cookie: 'MAILEAST', min_up: 2 },
  remote_pools: [
    { site: 'west', cookie: 'MAILWEST' },
    { site: 'north', cookie: 'MAILNORTH' },
  ],
};

/** The config file of site east with these applications. */
async function siteOf(admin: FakeAdmin, applications: readonly object[], changes: SiteFile = {}): Promise<SiteFile> {
  const { local_pool: _local, remote_pools: _remote, ...shared } = await eastFile(admin, changes);
  return { ...shared, applications };
}

function answer({ code, stdout, stderr }: CliResult): string[] {
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return linesOf(stdout);
}

function complaint({ code, stdout, stderr }: CliResult): string[] {
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  return linesOf(stderr);
}

/** Times and ages replaced by words, so that the rest can be compared. */
function withoutTimes(lines: readonly string[]): string[] {
  return lines.map((line) =>
    line.replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'TIME').replace(/\d+\.\d s ago/, 'AGE ago'),
  );
}

interface Running {
  run(command: string, ...rest: string[]): Promise<CliResult>;
  state(): Promise<SiteStateReport>;
  /** What is logged of drains. */
  drains(): string[];
}

/** A sidecar process for the running test whose pools are all up but mail's in west, once it has said so. */
async function startRunning(changes: SiteFile = {}): Promise<Running> {
  const admin = await startAdmin();
  for (const cluster of ['shop_local', 'shop_west', 'mail_local', 'mail_north']) admin.setPool(cluster, ['up', 'up']);
  admin.setPool('mail_west', ['failed health check']);
  const file = await siteOf(admin, [SHOP, MAIL], changes);
  const configFile = await writeSiteFile(file);
  const serve = await startServe(configFile);
  await serve.waitForLine(/mail_north/);
  return {
    run: (command, ...rest) => runCli([command, '--config', configFile, ...rest]),
    state: async () => siteStateSchema.parse(await (await fetch(`http://${file.ops_listen}/api/state`)).json()),
    drains: () => {
      const lines = serve.lines.map(parseLogLine).filter(({ message }) => /application .* drain/.test(message));
      return lines.map(({ level, message, fields }) => `${level} ${message} [${fields.application}]`);
    },
  };
}

async function drainingIn(running: Running): Promise<string[]> {
  return (await running.state()).applications.filter(({ draining }) => draining).map(({ name }) => name);
}

describe('status', () => {
  test('says of the site how each application stands, those first that are not well', async () => {
    const running = await startRunning();
    const lines = withoutTimes(answer(await running.run('status')));
    expect(lines.slice(0, 8)).toEqual([
      '1 of 2 applications is not well.',
      '  warn  mail  East serves its clients; west is down.',
      '  ok    shop  East serves its clients.',
      '"status NAME" shows one of them',
      'site east: not draining',
      'health known (polled AGE ago)',
      'fast path on: requests that need no decision stay in Envoy',
      'decisions a second: none yet',
    ]);
  });

  test('of an application has its pools and changes, and nothing of the others', async () => {
    const running = await startRunning();
    const lines = withoutTimes(answer(await running.run('status', 'shop')));
    expect(lines.slice(0, 8)).toEqual([
      'shop (shop.example.com *.shop.example.com): East serves its clients.',
      '  fast path on: requests that need no decision stay in Envoy',
      '  shop_local (east)  up    2 of 2 servers up',
      '    127.0.0.1:3001: up',
      '    127.0.0.1:3002: up',
      '  shop_west (west)   up    2 of 2 servers up',
      '    127.0.0.1:3001: up',
      '    127.0.0.1:3002: up',
    ]);
    expect(lines.join('\n')).not.toContain('mail');

    const both = answer(await running.run('status', 'mail', 'shop'));
    expect(both.filter((line) => /^\S/.test(line))).toEqual([
      'mail (mail.example.com): East serves its clients; west is down.',
      'shop (shop.example.com *.shop.example.com): East serves its clients.',
    ]);
  });
});

describe('drain', () => {
  test('of an application leaves the others alone, and undrain ends it', async () => {
    const running = await startRunning();
    const drained = withoutTimes(answer(await running.run('drain', 'shop', '--for', '1h')));
    expect(drained).toContain(
      "  warn  shop  Draining: new clients go elsewhere, 0 requests of east's sessions in the last minute.",
    );
    expect(await drainingIn(running)).toEqual(['shop']);
    expect(withoutTimes(answer(await running.run('status', 'shop')))[1]).toBe('  draining since TIME, until TIME');
    expect(answer(await running.run('status', 'mail')).join('\n')).not.toMatch(/draining since/);

    expect(answer(await running.run('undrain', 'mail')).join('\n')).toContain('Draining: new clients go elsewhere');
    expect(await drainingIn(running)).toEqual(['shop']);
    expect(answer(await running.run('undrain', 'shop'))).toContain('  ok    shop  East serves its clients.');
    expect(await drainingIn(running)).toEqual([]);
    expect(withoutTimes(running.drains())).toEqual([
      'warn application shop of site east is draining, until TIME: its status URI says DOWN to the world [shop]',
      'info application shop of site east is no longer draining: undrain was asked for [shop]',
    ]);
  });

  test('without a name is of all applications, of which undrain can end one', async () => {
    const running = await startRunning();
    answer(await running.run('drain'));
    expect(await drainingIn(running)).toEqual(['shop', 'mail']);
    answer(await running.run('undrain', 'mail'));
    expect(await drainingIn(running)).toEqual(['shop']);
    answer(await running.run('drain', 'shop', 'mail'));
    expect(await drainingIn(running)).toEqual(['shop', 'mail']);
    answer(await running.run('undrain'));
    expect(await drainingIn(running)).toEqual([]);
  });

  test('by the config file is not ended by undrain, which says so', async () => {
    const running = await startRunning({ drain: true });
    expect(await drainingIn(running)).toEqual(['shop', 'mail']);
    const { code, stderr } = await running.run('undrain', 'shop');
    expect([code, linesOf(stderr)]).toEqual([
      1,
      ['still draining: shop, for the config file says drain: true; take it out and reload'],
    ]);
  });
});

test('an application that is not there is refused, with those that there are, and nothing drains', async () => {
  const running = await startRunning();
  const commands = ['status', 'drain', 'undrain'];
  const results = await Promise.all(commands.map((command) => running.run(command, 'shop', 'chop')));
  for (const [index, result] of results.entries()) {
    expect([commands[index], complaint(result)]).toEqual([
      commands[index],
      [expect.stringMatching(/chop.*; there are shop, mail$/)],
    ]);
  }
  expect(await drainingIn(running)).toEqual([]);
});

describe('check', () => {
  async function check(applications: readonly object[], changes: SiteFile = {}): Promise<string[]> {
    const file = await writeSiteFile(await siteOf(await startAdmin(), applications, changes));
    return answer(await runCli(['check', '--config', file]));
  }

  test('has a table of the applications, with a row for each pool', async () => {
    const lines = await check([SHOP, { ...MAIL, on_owner_down: 'keep' }]);
    expect(lines.slice(1)).toEqual([
      'site east: 2 applications',
      '  application  hosts                                site   pool        cookie     up with',
      '  shop         shop.example.com *.shop.example.com  east   shop_local  SHOPEAST   1',
      '                                                    west   shop_west   SHOPWEST   1',
      '  mail         mail.example.com                     east   mail_local  MAILEAST   2',
      '                                                    west   mail_west   MAILWEST   1',
      '                                                    north  mail_north  MAILNORTH  1',
      'note: a request without a Host, as many monitors send, is refused with 400: name the application in envoy.default_host',
      expect.stringMatching(/^ext_proc on 127\.0\.0\.1:\d+, Envoy's admin interface at http:/),
      'shop: a session whose owner is down: adopt; with both cookies: remote',
      'mail: a session whose owner is down: keep; with both cookies: remote',
    ]);
  });

  test('warns of a cookie that two applications call the same', async () => {
    const mail = { ...MAIL, local_pool: { cookie: 'SHOPEAST' } };
    const lines = await check([SHOP, mail]);
    expect(lines.filter((line) => line.startsWith('warning'))).toEqual([
      'warning: cookie SHOPEAST is used by shop and mail: no browser sends it to both, but other clients may',
    ]);
    expect((await check([SHOP, MAIL])).join('\n')).not.toContain('warning');
  });

  test('says whose a request without a Host is', async () => {
    const lines = await check([SHOP, MAIL], { envoy: { default_host: 'mail.example.com' } });
    expect(lines).toContain('a request without a Host is taken for mail.example.com');
  });
});
