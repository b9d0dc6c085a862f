import { expect, test } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { ChangeLog } from '../../../src/log/changes.ts';
import { Counters } from '../../../src/metrics/counters.ts';
import { createReloader, type Reloader } from '../../../src/runtime/reload.ts';
import { TestLog } from '../../integration/site.ts';
import { onlyApplication } from '../../support/only-application.ts';
import { MINIMAL } from '../config/good-configs.ts';

const read = (more: string): Config => parseConfig(MINIMAL + more, 'site.yaml');

/** A reloader whose configs come into force only when `finish` is called. */
function reloading() {
  let current = read('');
  let reading = async () => current;
  const applied: Config[] = [];
  const given: Config[] = [];
  const counters = new Counters();
  const pending: (() => void)[] = [];
  const log = new TestLog();
  const actual: Reloader = createReloader({
    read: () => reading(),
    current: () => current,
    giveToEnvoy: async (config) => {
      given.push(config);
    },
    apply: async (config) => {
      await new Promise<void>((resolve) => pending.push(resolve));
      applied.push(config);
      current = config;
    },
    counters,
    changes: new ChangeLog(log.logger),
    logger: log.logger,
  });
  async function finish(): Promise<void> {
    while (pending.length === 0) await new Promise((resolve) => setImmediate(resolve));
    pending.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const reloader = {
    /** @param next what stands in the file by then */
    reload(next: () => Promise<Config>) {
      reading = next;
      return actual.reload();
    },
    close: () => actual.close(),
  };
  const lines = () => log.lines.map((line) => `${line.level} ${line.message}`);
  return { reloader, applied, given, results: counters.reloads, finish, lines };
}

test('one reload runs at a time, and of those asked for meanwhile the last follows', async () => {
  const { reloader, applied, results, finish } = reloading();
  const done = ['adopt', 'keep', 'refuse', 'keep'].map((value, index) =>
    reloader.reload(async () => read(`on_owner_down: ${index === 0 ? 'refuse' : value}\n`)),
  );
  await finish();
  expect(applied.map((config) => onlyApplication(config).onOwnerDown)).toEqual(['refuse']);
  await finish();
  await Promise.all(done);
  expect(applied.map((config) => onlyApplication(config).onOwnerDown)).toEqual(['refuse', 'keep']);
  expect(results).toEqual({ ok: 2, rejected: 0 });
});

test('what changed is said in one line, and what else is to be done', async () => {
  const { reloader, finish, lines } = reloading();
  const done = reloader.reload(async () =>
    read('listen: 127.0.0.1:7001\nops_listen: 127.0.0.1:7002\nhealth: { hold_up: 9s }\n'),
  );
  await finish();
  await done;
  expect(lines()).toEqual([
    'info config reloaded: listen, ops_listen, health.hold_up, envoy.sidecars changed',
    'warn listen is now 127.0.0.1:7001 in the config: restart to apply it, until then it stays 127.0.0.1:9002',
    'warn ops_listen is now 127.0.0.1:7002 in the config: restart to apply it, until then it stays 127.0.0.1:9003',
    'warn Envoy\'s own config must change too: print it again with "site-persistence envoy"',
  ]);
});

test('Envoy finds the sidecars where they listen until they are restarted', async () => {
  const { reloader, given, finish } = reloading();
  const done = reloader.reload(async () => read('listen: 127.0.0.1:7001\n'));
  await finish();
  await done;
  expect(given.map(({ envoy }) => envoy.sidecars)).toEqual([read('').envoy.sidecars]);
});

test('another status URI is one for the other sites as well', async () => {
  const { reloader, finish, lines } = reloading();
  const done = reloader.reload(async () => read('status_uri: /other\n'));
  await finish();
  await done;
  expect(lines()).toContain(
    'warn status_uri: other sites ask for it as well, and take this one for down until theirs is the same',
  );
});

test('a changed address comes into force with nothing, and is said again at the next reload', async () => {
  const { reloader, applied, finish, lines } = reloading();
  for (let time = 1; time <= 2; time++) {
    const done = reloader.reload(async () => read('ops_listen: 127.0.0.1:7002\n'));
    await finish();
    await done;
    expect(lines().filter((line) => line.includes('restart to apply it'))).toHaveLength(time);
  }
  expect(applied.map(({ opsListen }) => opsListen)).toEqual([read('').opsListen, read('').opsListen]);
});

test('TLS and sockets stay as they were until a restart, which is said', async () => {
  const { reloader, applied, finish, lines } = reloading();
  const tls = 'ops_listen_tls: { cert_file: c, key_file: k, client_ca_file: a }\n';
  const done = reloader.reload(async () => read(`${tls}socket: { mode: "0600" }\nhealth: { hold_up: 9s }\n`));
  await finish();
  await done;
  expect(lines().slice(1)).toEqual([
    'warn ops_listen_tls changed in the config: restart to apply it, until then it stays as it was',
    'warn socket.mode changed in the config: restart to apply it, until then it stays as it was',
  ]);
  const { opsListenTls, socket } = read('');
  expect(applied).toEqual([{ ...read('health: { hold_up: 9s }\n'), opsListenTls, socket }]);
});

test('nothing is put in force where nothing changed, which is said', async () => {
  const { reloader, applied, results, lines } = reloading();
  await reloader.reload(async () => read('listen: 127.0.0.1:9002\n'));
  expect([applied, results, lines()]).toEqual([[], { ok: 1, rejected: 0 }, ['info config reloaded: nothing changed']]);
});

test('a bad config is rejected with every error in it', async () => {
  const { reloader, applied, results, lines } = reloading();
  const outcome = await reloader.reload(async () => read('bogus: 1\nstatus_uri: status\n'));
  expect([applied, results]).toEqual([[], { ok: 0, rejected: 1 }]);
  expect(lines()).toEqual([
    'error config file rejected, the old config stays: 2 errors',
    expect.stringMatching(/^error site\.yaml:9: bogus: unknown key/),
    expect.stringMatching(/^error site\.yaml:10: status_uri: "status" is not a path/),
  ]);
  expect(outcome).toEqual({ isAccepted: false, lines: lines().map((line) => line.replace(/^error /, '')) });
});

test('a failure that nobody thought of is logged, and the next reload goes well', async () => {
  const { reloader, results, finish, lines } = reloading();
  await reloader.reload(async () => {
    throw new Error('out of memory');
  });
  expect(lines()).toEqual(['error the config could not be reloaded: out of memory']);
  const done = reloader.reload(async () => read('both_cookies: local\n'));
  await finish();
  await done;
  expect(results).toEqual({ ok: 1, rejected: 1 });
});

test('a reload does nothing once closed, not even one that is being read', async () => {
  const { reloader, applied, results, lines } = reloading();
  let goOn: (config: Config) => void = () => {};
  const done = reloader.reload(() => new Promise((resolve) => (goOn = resolve)));
  reloader.close();
  goOn(read('both_cookies: local\n'));
  await done;
  await reloader.reload(async () => read('both_cookies: local\n'));
  expect([applied, results, lines()]).toEqual([[], { ok: 0, rejected: 0 }, []]);
});

test('another content of the overlay is a change of Envoy’s own config', async () => {
  const { reloader, finish, lines } = reloading();
  const overlay = { kind: 'overlay', file: 'extra.yaml', text: 'admin: {}', content: { admin: {} } } as const;
  const config = read('envoy: { overlay: extra.yaml }\n');
  const done = reloader.reload(async () => ({ ...config, envoy: { ...config.envoy, overlay } }));
  await finish();
  await done;
  expect(lines()).toEqual([
    'info config reloaded: envoy.overlay changed',
    expect.stringContaining("Envoy's own config must change too"),
  ]);
});
