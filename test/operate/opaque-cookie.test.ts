import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI, startAppServer } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';
import { freePorts } from '../support/free-ports.ts';
import { type RawRequest, sendRaw } from '../support/raw-http.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';
import { openWebSocket } from '../support/web-socket.ts';

const run = promisify(execFile);

const FIRST = '0123456789abcdef'.repeat(2);
const SECOND = 'fedcba9876543210'.repeat(2);

const OPAQUE = /^"1[\w-]{22}"$/;

let directory: string;
let keyFile: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-keys-'));
  keyFile = join(directory, 'cookie.key');
  await writeFile(keyFile, `${FIRST}\n`, { mode: 0o600 });
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

interface EastPool {
  cookie: { name: string; also?: string[]; ttl?: string; opaque?: { key_file: string; accept_plain?: boolean } };
  servers: string[];
}

function eastPool(file: { readonly local_pool: object }): EastPool {
  return file.local_pool as EastPool;
}

/** As stateful_session itself writes it. */
function plainValue(address: string): string {
  return Buffer.from(`\n${String.fromCharCode(address.length)}${address}`, 'latin1').toString('base64');
}

/** Of clients with this Cookie header: one server for all of them, or several. */
async function serversOf(site: SiteLab, cookie: string | readonly string[]): Promise<string[]> {
  const seen = new Set<string>();
  for (let count = 0; count < 6; count++) {
    const client = new Client();
    seen.add(
      serverOf(await client.ask(site.url, { headers: { cookie: typeof cookie === 'string' ? cookie : [...cookie] } })),
    );
    client.close();
  }
  return [...seen].sort();
}

/** Whether such a request has a server: one that has not gets a cookie. */
async function isKnown(site: SiteLab, cookie: string): Promise<boolean> {
  const client = new Client();
  const answer = await client.request(site.url, { headers: { cookie } });
  client.close();
  return answer.headers['set-cookie'] === undefined;
}

async function errorsOf(site: SiteLab): Promise<number> {
  const text = await (await fetch(`${site.adminUrl}/stats?filter=lua.opaque_cookie.errors`)).text();
  const counts = [...text.matchAll(/: (\d+)$/gm)].map(([, count]) => Number(count));
  expect(counts.length).toBeGreaterThan(0);
  return counts.reduce((sum, count) => sum + count, 0);
}

describe.each([
  { envoyVersion: '1.40.0', fastPath: true, pool: {}, ttl: undefined },
  { envoyVersion: '1.36.4', fastPath: false, pool: { close_when_down: true }, ttl: '1h' },
] as const)('an opaque cookie (Envoy $envoyVersion, fast path $fastPath, $pool, ttl $ttl)', (options) => {
  const { envoyVersion, fastPath, pool, ttl } = options;
  let lab: TwoSites;
  let addresses: readonly string[] = [];
  const client = new Client();
  let server = '';

  beforeAll(async () => {
    lab = await startTwoSites({
      envoyVersion,
      fastPath,
      configure(file, site) {
        if (site !== 'east') return;
        Object.assign(file.local_pool, pool);
        const own = eastPool(file);
        own.cookie = {
          name: EAST_COOKIE,
          also: ['OLDEAST'],
          opaque: { key_file: keyFile },
          ...(ttl === undefined ? {} : { ttl }),
        };
        addresses = own.servers;
      },
    });
    server = serverOf(await client.ask(lab.east.url));
  });
  afterAll(async () => {
    client.close();
    await lab?.close();
  });

  test('tells no address, and its session stays at its server, by either site', async () => {
    expect(client.cookies.get(EAST_COOKIE)).toMatch(OPAQUE);
    for (const site of [...lab.sites, ...lab.sites]) expect(serverOf(await client.ask(site.url))).toBe(server);
    expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
  });

  test("is set beside the application's own cookies", async () => {
    const fresh = new Client();
    await fresh.request(`${lab.east.url}/set-cookie`);
    expect([...fresh.cookies.keys()]).toEqual(['app', 'theme', EAST_COOKIE]);
    expect(fresh.cookies.get(EAST_COOKIE)).toMatch(OPAQUE);
    fresh.close();
  });

  test('counts wherever it stands among cookies, with quotation marks or without', async () => {
    const value = client.cookies.get(EAST_COOKIE) ?? '';
    const bare = value.slice(1, -1);
    for (const cookie of [`a=b; ${EAST_COOKIE}=${value}; c=d`, `${EAST_COOKIE}=${bare};c=1,2`, `OLDEAST=${bare}`]) {
      expect([cookie, await serversOf(lab.east, cookie)]).toEqual([cookie, [server]]);
    }
    expect(await serversOf(lab.east, ['a=b', `${EAST_COOKIE}=${value}`, 'c=d'])).toEqual([server]);
  });

  test('a plain value still keeps its server', async () => {
    const isClosing = 'close_when_down' in pool;
    for (const [index, address] of addresses.entries()) {
      const plain = plainValue(isClosing ? `envoy://local_pool_closing/${address}` : address);
      expect(await serversOf(lab.east, `${EAST_COOKIE}="${plain}"`)).toEqual([`east/app-${index + 1}`]);
    }
  });

  test.each<[string, RawRequest['headers']]>([
    ['with a quotation mark alone', [['cookie', `${EAST_COOKIE}="`]]],
    ['with half of a pair', [['cookie', `${EAST_COOKIE}="1abc; x="`]]],
    ['without a value, often', [['cookie', `${EAST_COOKIE}=; `.repeat(1_500)]]],
    ['of one long value', [['cookie', `${EAST_COOKIE}=1${'A'.repeat(40_000)}`]]],
    [
      'behind many spaces',
      [['cookie', `a=b;${' '.repeat(20_000)}${EAST_COOKIE}=x${' '.repeat(20_000)}${EAST_COOKIE}=y`]],
    ],
    ['of bytes that are no text', [['cookie', `${EAST_COOKIE}=\xff\xfe%00[[]]--"\\`]]],
    ['in many lines', Array.from({ length: 60 }, (_, index) => ['cookie', `${EAST_COOKIE}=v${index}`] as const)],
  ])('a hostile one %s is served, as without it', async (_, headers = []) => {
    expect((await sendRaw('HTTP/1.1', lab.east.url, { headers })).status).toBe(200);
    expect(await errorsOf(lab.east)).toBe(0);
  });

  test('doctor finds it as it must be', async () => {
    const doctor = await run(process.execPath, [CLI, 'doctor', '--config', lab.east.configFile]);
    expect(doctor.stdout).toContain(`${EAST_COOKIE} tells no server's address\n`);
  });

  test('without a sidecar sessions keep their server, and new ones get such a cookie', async () => {
    await lab.east.sidecar().stop('SIGKILL');
    await lab.west.sidecar().stop('SIGKILL');
    for (const site of [...lab.sites, ...lab.sites]) expect(serverOf(await client.ask(site.url))).toBe(server);
    const fresh = new Client();
    const first = serverOf(await fresh.ask(lab.east.url));
    expect(fresh.cookies.get(EAST_COOKIE)).toMatch(OPAQUE);
    expect(serverOf(await fresh.ask(lab.east.url))).toBe(first);
    fresh.close();
  });

  test('a session of another site that is taken over gets one as well, from the stand-in listener', async () => {
    const adopted = new Client();
    adopted.cookies.set(WEST_COOKIE, 'x');
    const first = serverOf(
      await adopted.ask(lab.east.url, { headers: { cookie: `${WEST_COOKIE}=x`, 'x-site-hop': 'west' } }),
    );
    expect([...adopted.cookies.keys()]).toEqual([EAST_COOKIE]);
    expect(adopted.cookies.get(EAST_COOKIE)).toMatch(OPAQUE);
    expect(serverOf(await adopted.ask(lab.east.url))).toBe(first);
    adopted.close();
    expect(await errorsOf(lab.east)).toBe(0);
  });
});

describe('an opaque cookie where Envoy follows the file', () => {
  let lab: TwoSites;
  let addresses: readonly string[] = [];
  const plain: { client: Client; server: string }[] = [];

  beforeAll(async () => {
    lab = await startTwoSites({ configDir: true });
  });
  afterAll(async () => {
    for (const { client } of plain) client.close();
    await lab?.close();
  });

  async function edit(change: (own: EastPool) => void): Promise<void> {
    await writeConfig(lab.east, (file) => change(eastPool(file)));
    await reload(lab.east);
  }

  async function session(): Promise<{ client: Client; server: string }> {
    const client = new Client();
    return { client, server: serverOf(await client.ask(lab.east.url)) };
  }

  test('comes without losing a session, and goes on when its key changes and a server comes; no connection is cut', async () => {
    plain.push(await session(), await session(), await session());
    await edit((own) => {
      addresses = own.servers;
      own.cookie = { name: EAST_COOKIE, opaque: { key_file: keyFile } };
    });
    const isOpaque = async () => {
      const { client } = await session();
      client.close();
      return OPAQUE.test(client.cookies.get(EAST_COOKIE) ?? '');
    };
    await waitUntil(isOpaque, { what: 'new sessions to get opaque cookies' });
    for (const { client, server } of plain) expect(serverOf(await client.ask(lab.west.url))).toBe(server);

    const hidden = await session();
    const old = hidden.client.cookies.get(EAST_COOKIE) ?? '';
    const socket = await openWebSocket(lab.east.url, `${EAST_COOKIE}=${old}`);
    expect(socket.greeting).toBe(hidden.server);
    await writeFile(keyFile, `${SECOND}\n${FIRST}\n`);
    const [port = 0] = await freePorts(1);
    const added = await startAppServer({ site: 'east', server: 'app-3', port, speaks: 'http1' });
    await edit((own) => own.servers.push(`127.0.0.1:${port}`));
    await waitUntil(async () => (await serversOf(lab.east, 'a=b')).includes('east/app-3'), { what: 'the new server' });
    expect(await serversOf(lab.east, `${EAST_COOKIE}=${old}`)).toEqual([hidden.server]);
    let byNewKey = '';
    const hasNewKey = async () => {
      byNewKey = await sessionAt(hidden.server);
      return byNewKey !== old;
    };
    await waitUntil(hasNewKey, { what: 'a value by the new key' });
    expect(byNewKey).toMatch(OPAQUE);
    expect(await socket.say('still there')).toBe('still there');
    socket.close();

    await writeFile(keyFile, `${SECOND}\n`);
    await edit((own) => {
      if (own.cookie.opaque !== undefined) own.cookie.opaque.accept_plain = false;
    });
    await waitUntil(async () => !(await isKnown(lab.east, `${EAST_COOKIE}=${old}`)), {
      what: 'the old key to count no more',
    });
    expect(await serversOf(lab.east, `${EAST_COOKIE}=${byNewKey}`)).toEqual([hidden.server]);
    for (const form of [
      `${EAST_COOKIE}=V`,
      `${EAST_COOKIE}="V"`,
      `a=b;  ${EAST_COOKIE}=V; c=d`,
      `${EAST_COOKIE}=x; ${EAST_COOKIE}=V`,
    ]) {
      const cookie = form.replace('V', plainValue(addresses[0] ?? ''));
      expect([cookie, await isKnown(lab.east, cookie)]).toEqual([cookie, false]);
    }
    // What the edge gives on counts: a retry comes with it to the stand-in listener.
    const client = new Client();
    const { cookies } = await client.ask(lab.east.url, { headers: { cookie: `${EAST_COOKIE}=${byNewKey}` } });
    client.close();
    expect(cookies).toMatch(/^KVAAVROI="C/);
    expect(await serversOf(lab.east, cookies ?? '')).toEqual([hidden.server]);
    expect(await errorsOf(lab.east)).toBe(0);
    hidden.client.close();
    await added.stop('SIGKILL');
  });

  /** The cookie of a new session there. */
  async function sessionAt(server: string): Promise<string> {
    for (;;) {
      const { client, server: at } = await session();
      client.close();
      if (at === server) return client.cookies.get(EAST_COOKIE) ?? '';
    }
  }
});
