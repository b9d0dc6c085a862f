import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';
import { Load } from '../support/load.ts';

const ROOT = new URL('../../', import.meta.url).pathname;
const EAST = 'http://localhost:8081';
const WEST = 'http://localhost:8082';

function nameOf(edge: string): string {
  return edge === EAST ? 'east' : 'west';
}

interface Demo {
  readonly output: () => string;
  readonly type: (line: string) => void;
  readonly interrupt: () => void;
  readonly exitCode: Promise<number | null>;
  readonly childPids: () => Promise<number[]>;
}

const demos: Demo[] = [];

afterEach(async () => {
  for (const demo of demos.splice(0)) {
    demo.interrupt();
    await demo.exitCode;
  }
});

function startDemo(): Demo {
  const child = spawn(process.execPath, ['build/lab/demo.js'], { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exitCode = new Promise<number | null>((resolve) => child.once('close', resolve));
  const demo: Demo = {
    output: () => output,
    type: (line) => child.stdin.write(`${line}\n`),
    interrupt: () => child.kill('SIGINT'),
    exitCode,
    childPids: async () => {
      const lister = spawn('ps', ['-o', 'pid=', '--ppid', String(child.pid)]);
      let listed = '';
      lister.stdout.setEncoding('utf8').on('data', (text: string) => {
        listed += text;
      });
      await new Promise((resolve) => lister.once('close', resolve));
      return listed.split('\n').flatMap((line) => (line.trim() === '' ? [] : [Number(line)]));
    },
  };
  demos.push(demo);
  return demo;
}

/** @param from where in the output to look from, for what was there before does not count */
async function sees(demo: Demo, pattern: RegExp, from = 0): Promise<void> {
  await waitUntil(() => pattern.test(demo.output().slice(from)), { what: `the demo to print ${pattern}` });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('the demo serves two sites, shows changes as they happen, and leaves nothing running', async () => {
  const demo = startDemo();
  await sees(demo, /Two sites are running/);
  await sees(demo, /east: pool remote_pool \(west\) is up/);
  await sees(demo, /west: pool remote_pool \(east\) is up/);
  const client = new Client();
  // Envoy asks a sidecar once that has answered its health check.
  for (const edge of [EAST, WEST]) {
    await waitUntil(
      async () => {
        await client.request(`${edge}/local_pool_status`);
        return new RegExp(`${nameOf(edge)}: default: GET /local_pool_status → 200 \\(status`).test(demo.output());
      },
      { what: `the sidecar of ${nameOf(edge)} to decide` },
    );
  }

  const home = await client.ask(EAST);
  expect(home.site).toBe('east');
  expect(serverOf(await client.ask(WEST))).toBe(serverOf(home));
  await sees(demo, /west: default: GET \/ → 200 \(forward, owner east/);
  const page = await client.request(EAST, { headers: { accept: 'text/html' } });
  expect(page.body).toMatch(/Application default, site east, server app-[12]/);
  expect(page.body).toContain('KVAAVROI');

  const beforeStop = demo.output().length;
  demo.type('stop east');
  await sees(demo, /east: pool local_pool \(east\) is down/, beforeStop);
  await sees(demo, /west: pool remote_pool \(east\) is down/, beforeStop);
  expect((await client.ask(WEST)).site).toBe('west');
  const beforeStart = demo.output().length;
  demo.type('start east');
  await sees(demo, /west: pool remote_pool \(east\) is up/, beforeStart);
  expect((await client.ask(EAST)).site).toBe('west');
  demo.type('nonsense');
  await sees(demo, /not understood: nonsense/);

  const pids = await demo.childPids();
  expect(pids.length).toBe(12);
  demo.interrupt();
  expect(await demo.exitCode).toBe(0);
  expect(demo.output()).toContain('nothing is left running');
  expect(pids.filter(isRunning), demo.output()).toEqual([]);
  client.close();
});

test('applications are told apart by their hosts: each has its own servers and cookies, and can stop alone', async () => {
  const demo = startDemo();
  await sees(demo, /Two sites are running/);
  for (const pool of ['shop_west', 'mail_west']) await sees(demo, new RegExp(`east: pool ${pool} \\(west\\) is up`));
  for (const pool of ['shop_east', 'mail_east']) await sees(demo, new RegExp(`west: pool ${pool} \\(east\\) is up`));

  const [shop, mail] = [new Client(), new Client()];
  const ask = (client: Client, name: string, edge: string) =>
    client.ask(edge, { headers: { host: `${name}.localhost:${new URL(edge).port}` } });
  for (const [name, client] of Object.entries({ shop, mail })) {
    const cookie = `${name.toUpperCase()}EAST`;
    expect(await ask(client, name, EAST)).toMatchObject({ application: name, site: 'east', server: `${name}-1` });
    expect([...client.cookies.keys()]).toEqual([cookie]);
    expect(await ask(client, name, WEST)).toMatchObject({ application: name, site: 'east', hop: 'west' });
  }
  await sees(demo, /west: shop: GET \/ → 200 \((forward, owner east|no decision)/);

  const beforeStop = demo.output().length;
  demo.type('stop east shop');
  await sees(demo, /west: pool shop_east \(east\) is down/, beforeStop);
  expect(await ask(shop, 'shop', WEST)).toMatchObject({ application: 'shop', site: 'west' });
  expect(await ask(mail, 'mail', WEST)).toMatchObject({ application: 'mail', site: 'east' });
  shop.close();
  mail.close();
});

test('a server more takes new clients, and less again its sessions move: nobody else does, and no request is lost', async () => {
  const demo = startDemo();
  await sees(demo, /Two sites are running/);
  await sees(demo, /east: pool remote_pool \(west\) is up/);
  await sees(demo, /west: pool remote_pool \(east\) is up/);
  const load = await Load.start({ homes: [EAST, WEST], edges: [EAST, WEST] });
  demo.type('add east');
  await sees(demo, /east: Envoy has taken .*east: app-3 takes requests/s);
  const client = new Client();
  await waitUntil(
    async () => {
      client.cookies.clear();
      return (await client.ask(EAST)).server === 'app-3';
    },
    { what: 'a new client to land on app-3' },
  );
  expect(serverOf(await client.ask(WEST))).toBe('east/app-3');

  demo.type('remove east');
  await sees(demo, /east: app-3 is out/);
  expect(serverOf(await client.ask(WEST))).toMatch(/^east\/app-[12]$/);
  demo.type('remove east');
  await sees(demo, /east's default has no server that was added/);
  expect(await load.stop()).toMatchObject({ lost: 0, losses: [], moved: 0 });
  demo.type('stop east sidecar');
  await sees(demo, /east sidecar: ended/);
  demo.type('add east');
  await sees(demo, /east's sidecar is stopped: type start east sidecar first/);
  client.close();
});

test('help says again what can be typed, and where the status pages are; health checks are not printed', async () => {
  const demo = startDemo();
  await sees(demo, /Two sites are running/);
  const from = demo.output().length;
  demo.type('help');
  await sees(demo, /help +prints this again/, from);
  const help = demo.output().slice(from);
  for (const command of ['stop east', 'start east sidecar', 'stop east shop', 'add east', 'quit'])
    expect(help).toContain(command);
  for (const page of ['http://localhost:9003/', 'http://localhost:9013/']) {
    expect(help).toContain(page);
    expect((await fetch(page)).status).toBe(200);
  }
  await sees(demo, /east: pool mail_west \(west\) is up/);
  await sees(demo, /west: pool mail_east \(east\) is up/);
  expect(demo.output()).not.toContain('GET /local_pool_status');
});

test('a port in use is said by name', async () => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(8082, '127.0.0.1', resolve));
  try {
    const demo = startDemo();
    expect(await demo.exitCode).toBe(1);
    expect(demo.output()).toMatch(/^demo: port 8082 is in use; the demo needs it for Envoy of west/);
    expect(demo.output()).not.toMatch(/^ +at /m);
  } finally {
    await new Promise((resolve) => blocker.close(resolve));
  }
});
