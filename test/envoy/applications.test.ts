import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { HopCertificates } from '../support/hop-certificates.ts';
import { Load } from '../support/load.ts';
import { sendBytes } from '../support/raw-http.ts';
import { MAIL, SHOP, startTwoApplications, type TwoApplications } from '../support/two-applications.ts';
import { EAST_COOKIE, type SiteLab, WEST_COOKIE } from '../support/two-sites.ts';

const to = (host: string) => ({ headers: { host } });
const UP = 'LOCAL POOL STATE: UP';
const DOWN = 'LOCAL POOL STATE: DOWN';

const fastPath = process.env.FAST_PATH === 'true';

describe('two applications on one Envoy', () => {
  let lab: TwoApplications;
  beforeAll(async () => {
    lab = await startTwoApplications();
  });
  afterAll(async () => await lab?.close());

  async function answerOf(site: SiteLab, host: string, path = '/', headers: Record<string, string> = {}) {
    const client = new Client();
    const answer = await client.request(`${site.url}${path}`, { headers: { host, ...headers } });
    client.close();
    return answer;
  }

  test('one browser jar holds a session in each, and no request gets into the other', async () => {
    const client = new Client();
    const shop = await client.ask(lab.east.url, to(SHOP));
    const mail = await client.ask(lab.west.url, to(MAIL));
    expect([shop.site, shop.server.startsWith('app-')]).toEqual(['east', true]);
    expect([mail.site, mail.server]).toEqual(['west', 'mail-1']);
    expect([...client.cookies.keys()].sort()).toEqual([EAST_COOKIE, 'MAILwest'].sort());
    for (let count = 0; count < 10; count++) {
      for (const site of lab.sites) {
        expect(await client.ask(site.url, to(SHOP))).toMatchObject({ site: 'east', server: shop.server });
        expect(await client.ask(site.url, to(`WWW.${SHOP}:8080`))).toMatchObject({ site: 'east', server: shop.server });
        expect(await client.ask(site.url, to(MAIL))).toMatchObject({ site: 'west', server: 'mail-1' });
      }
    }
    expect([...client.cookies.keys()].sort()).toEqual([EAST_COOKIE, 'MAILwest'].sort());
    client.close();
  });

  test.each(['with the sidecar', 'without it'])('the status URI is answered by host, %s', async (how) => {
    if (how === 'without it') await lab.east.sidecar().stop('SIGKILL');
    try {
      for (const [host, path] of [
        [SHOP, '/local_pool_status'],
        [`${SHOP}:443`, '/local_pool_status?x=1'],
        [MAIL, '/mail_status'],
      ] as const) {
        const answer = await answerOf(lab.east, host, path);
        expect([answer.status, answer.body, answer.headers['content-type']]).toEqual([200, UP, 'text/html']);
      }
      await lab.stopMail(lab.east);
      await waitUntil(async () => (await answerOf(lab.east, MAIL, '/mail_status')).body === DOWN, {
        what: 'the status URI of mail to say DOWN',
      });
      expect((await answerOf(lab.east, MAIL, '/mail_status')).status).toBe(503);
      expect((await answerOf(lab.east, SHOP, '/local_pool_status')).body).toBe(UP);
      // Each has its own status URI, which is an ordinary path for the other.
      expect(JSON.parse((await answerOf(lab.east, SHOP, '/mail_status')).body)).toMatchObject({ path: '/mail_status' });
    } finally {
      await lab.startMail(lab.east);
      if (how === 'without it') await lab.east.startSidecar();
      await lab.waitForPool(lab.east, 'mail_local', 'up');
      await lab.ready();
    }
  });

  test.each(['with the sidecar', 'without it'])(
    'a host of no application gets 404, whatever its path and headers say, %s',
    async (how) => {
      if (how === 'without it') await lab.east.sidecar().stop('SIGKILL');
      try {
        for (const [path, headers] of [
          ['/', {}],
          ['/local_pool_status', {}],
          ['/', { 'x-site-hop': 'west' }],
          ['/', { 'x-site-pool': 'local_pool' }],
          ['/', { cookie: `${WEST_COOKIE}=1` }],
        ] as const) {
          const answer = await answerOf(lab.east, 'cdn.example.com', path, headers);
          expect([answer.status, answer.body, answer.headers['set-cookie'], answer.headers['x-site-refused']]).toEqual([
            404,
            '',
            undefined,
            undefined,
          ]);
        }
        const raw = await sendBytes(lab.east.url, 'GET /local_pool_status HTTP/1.0\r\n\r\n');
        expect([200, 503]).not.toContain(raw.status);
      } finally {
        if (how === 'without it') {
          await lab.east.startSidecar();
          await lab.ready();
        }
      }
    },
  );

  test('each fails over alone when their pools at the other site fail one after the other', async () => {
    const client = new Client();
    await client.ask(lab.west.url, to(SHOP));
    await client.ask(lab.west.url, to(MAIL));
    expect([...client.cookies.keys()].sort()).toEqual([WEST_COOKIE, 'MAILwest'].sort());
    await lab.west.stopPool();
    await lab.waitForPool(lab.east, 'remote_pool', 'down');
    // Adopted here; the other application's session is where it was.
    expect(await client.ask(lab.east.url, to(SHOP))).toMatchObject({ site: 'east' });
    expect(await client.ask(lab.east.url, to(MAIL))).toMatchObject({ site: 'west', hop: 'east' });
    expect([...client.cookies.keys()].sort()).toEqual([EAST_COOKIE, 'MAILwest'].sort());
    await lab.stopMail(lab.west);
    await lab.waitForPool(lab.east, 'mail_west', 'down');
    expect(await client.ask(lab.east.url, to(MAIL))).toMatchObject({ site: 'east', server: 'mail-1' });
    expect([...client.cookies.keys()].sort()).toEqual([EAST_COOKIE, 'MAILeast'].sort());
    await lab.startMail(lab.west);
    await lab.waitForPool(lab.east, 'mail_west', 'up');
    // West's shop is still down, and neither session goes back.
    expect(await client.ask(lab.west.url, to(MAIL))).toMatchObject({ site: 'east' });
    expect(await client.ask(lab.west.url, to(SHOP))).toMatchObject({ site: 'east', hop: 'west' });
    const { applications } = await lab.east.state();
    expect(applications.map(({ name, verdict_level }) => [name, verdict_level])).toEqual([
      ['shop', 'warn'],
      ['mail', 'ok'],
    ]);
    await lab.west.startPool();
    await lab.ready();
    client.close();
  });

  test('a drain of one application leaves the other as it is', async () => {
    const post = async (path: string) => (await fetch(`${lab.east.opsUrl}${path}`, { method: 'POST' })).status;
    expect(await post('/drain?application=nobody')).toBe(400);
    expect(await post('/drain?application=mail')).toBe(200);
    // A worker of Envoy's takes a new runtime when it has come to it.
    const mailStatus = async () => (await answerOf(lab.east, MAIL, '/mail_status')).body;
    try {
      await expect.poll(mailStatus, { timeout: 10_000 }).toBe(DOWN);
      expect((await answerOf(lab.east, MAIL, '/mail_status', { 'x-site-hop': 'west' })).body).toBe(UP);
      expect((await answerOf(lab.east, SHOP, '/local_pool_status')).body).toBe(UP);
      const { applications, draining } = await lab.east.state();
      expect([draining, ...applications.map((each) => each.draining)]).toEqual([false, false, true]);
    } finally {
      expect(await post('/undrain?application=mail')).toBe(200);
    }
    await expect.poll(mailStatus, { timeout: 10_000 }).toBe(UP);
    await lab.ready();
  });

  test('the access log, metrics and the state say which application', async () => {
    const client = new Client();
    await client.request(`${lab.east.url}/log-shop`, to(SHOP));
    await client.request(`${lab.west.url}/log-mail`, to(MAIL));
    await client.request(`${lab.east.url}/log-other`, to('other.example.com'));
    client.close();
    const line = async (site: SiteLab, path: string) =>
      JSON.parse((await site.envoy?.waitForLine(new RegExp(`"path":"${path}"`))) ?? '{}') as Record<string, unknown>;
    expect(await line(lab.east, '/log-shop')).toMatchObject({ application: 'shop', decision: 'local' });
    expect(await line(lab.west, '/log-mail')).toMatchObject({ application: 'mail', decision: 'local' });
    expect(await line(lab.east, '/log-other')).toMatchObject({ application: null, decision: null, status: 404 });
    const metrics = await (await fetch(`${lab.east.opsUrl}/metrics`)).text();
    if (!fastPath) {
      expect(metrics).toMatch(/site_persistence_decisions_total\{[^}]*application="shop"[^}]*\} [1-9]/);
    }
    expect(metrics).toMatch(/site_persistence_pool_up\{[^}]*cluster="mail_west"[^}]*application="mail"[^}]*\} 1/);
    expect(metrics).toMatch(/site_persistence_other_hosts_total [1-9]/);
    const state = await lab.east.state();
    expect(state.applications.map(({ name, verdict }) => [name, verdict])).toEqual([
      ['shop', 'East serves its clients.'],
      ['mail', 'East serves its clients.'],
    ]);
    expect(state.other_hosts).toBeGreaterThan(0);
  });

  test('without the sidecars Envoy alone keeps the sessions of each at their site', async () => {
    const client = new Client();
    await client.ask(lab.east.url, to(SHOP));
    await client.ask(lab.west.url, to(MAIL));
    for (const site of lab.sites) await site.sidecar().stop('SIGKILL');
    try {
      for (const site of lab.sites) {
        expect(await client.ask(site.url, to(SHOP))).toMatchObject({ site: 'east' });
        expect(await client.ask(site.url, to(MAIL))).toMatchObject({ site: 'west', server: 'mail-1' });
      }
      expect([...client.cookies.keys()].sort()).toEqual([EAST_COOKIE, 'MAILwest'].sort());
      await lab.stopMail(lab.west);
      await waitUntil(async () => (await client.request(lab.east.url, to(MAIL))).status === 200, {
        what: 'mail to be served without its owner',
      });
      expect(await client.ask(lab.east.url, to(MAIL))).toMatchObject({ site: 'east', server: 'mail-1' });
      expect(await client.ask(lab.east.url, to(SHOP))).toMatchObject({ site: 'east' });
    } finally {
      await lab.startMail(lab.west);
      for (const site of lab.sites) await site.startSidecar();
      await lab.ready();
    }
    client.close();
  });

  test('a reload takes an application out and puts it back, and no request of either is lost', async () => {
    const edges = lab.sites.map(({ url }) => url);
    const [shop, mail] = await Promise.all(
      [SHOP, MAIL].map((host) => Load.start({ clients: 6, homes: [`${lab.east.url}/`], edges, request: to(host) })),
    );
    const both = await readFile(lab.east.configFile, 'utf8');
    const withoutMail = stringify({
      ...parse(both),
      applications: parse(both).applications.filter(({ name }: { name: string }) => name !== 'mail'),
    });
    for (const text of [withoutMail, both, withoutMail, both]) {
      await shop?.during(150);
      const count = text === both ? 2 : 1;
      await writeFile(lab.east.configFile, text);
      lab.east.sidecar().signal('SIGHUP');
      await waitUntil(async () => (await lab.east.state()).applications.length === count, {
        what: `${count} applications to be in force`,
      });
      await mail?.during(150);
    }
    for (const load of [shop, mail]) {
      const report = await load?.stop();
      expect(report, report?.losses.join('\n')).toMatchObject({ lost: 0, moved: 0, leftTheSite: 0 });
    }
    expect((await lab.east.state()).changes.some(({ message }) => message.includes('applications changed'))).toBe(true);
  });
});

describe('a request without a Host', () => {
  test.each([
    ['is for envoy.default_host', { default_host: SHOP }],
    ['is for that also where other sites have a listener of their own', { default_host: SHOP, hop: true }],
  ])('%s', async (_, { default_host, ...options }) => {
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-default-host-'));
    const certificates = 'hop' in options ? await HopCertificates.create(directory) : null;
    const lab = await startTwoApplications({
      configure: (file, site) => {
        file.envoy.default_host = default_host;
        certificates?.configure(file, site);
      },
    });
    try {
      const answer = await sendBytes(lab.east.url, 'GET /local_pool_status HTTP/1.0\r\n\r\n');
      expect([answer.status, answer.body]).toEqual([200, UP]);
      // Both applications come to the other site by the one listener.
      const client = new Client();
      for (const host of [SHOP, MAIL]) await client.ask(lab.west.url, to(host));
      for (const host of [SHOP, MAIL]) {
        expect(await client.ask(lab.east.url, to(host))).toMatchObject({ site: 'west', hop: 'east' });
      }
      client.close();
    } finally {
      await lab.close();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
