import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { Load } from '../support/load.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { patientWithSidecars } from '../support/skipped.ts';
import {
  type ConfigFile,
  EAST_COOKIE,
  type SiteLab,
  startTwoSites,
  type TwoSites,
  WEST_COOKIE,
} from '../support/two-sites.ts';

let lab: TwoSites;

beforeAll(async () => {
  lab = await startTwoSites({ fastPath: false, patchBootstrap: patientWithSidecars });
});
afterAll(async () => await lab?.close());

/** The site that serves a client which has both sites' cookies. */
async function servedWithBothCookies(site: SiteLab): Promise<string> {
  const client = new Client();
  client.cookies.set(EAST_COOKIE, 'none');
  client.cookies.set(WEST_COOKIE, 'none');
  try {
    return (await client.ask(site.url)).site;
  } finally {
    client.close();
  }
}

test('reloads under load skip no decision, and each changed rule takes effect', async () => {
  const { east } = lab;
  const urls = lab.sites.map((site) => site.url);
  const load = await Load.start({ clients: 16, homes: urls, edges: urls, pauseMs: 0 });
  const changes: [(file: ConfigFile) => void, string][] = [
    [(file) => (file.both_cookies = 'local'), 'east'],
    [(file) => (file.health = { hold_up: '60s', poll_interval: '100ms' }), 'east'],
    [(file) => (file.both_cookies = 'remote'), 'west'],
    [(file) => (file.health = {}), 'west'],
  ];
  /** Answers that took the other site's cookie away: Envoy then asks a second time. */
  let expiries = 0;
  for (let round = 0; round < 5; round++) {
    for (const [change, served] of changes) {
      await writeConfig(east, change);
      await reload(east);
      expect(await servedWithBothCookies(east)).toBe(served);
      if (served === 'east') expiries++;
      await load.during(50);
    }
  }
  await writeConfig(east, (file) => (file.both_cookies = 'sometimes'));
  await reload(east);
  await load.during(200);
  expect(await servedWithBothCookies(east)).toBe('west');
  await writeConfig(east, (file) => (file.both_cookies = 'remote'));

  const report = await load.stop();
  expect(report.lost, report.losses.slice(0, 10).join('\n')).toBe(0);
  expect(report.moved).toBe(0);
  const stat = (name: string) => east.stat(`http.edge.ext_proc.${name}`);
  await waitUntil(async () => (await stat('stream_msgs_received')) - (await stat('streams_started')) === expiries, {
    what: 'an answer for each time that Envoy asked',
  });
  for (const name of ['failure_mode_allowed', 'streams_failed', 'message_timeouts']) {
    expect(await stat(name).catch(() => 0), name).toBe(0);
  }
  const accessLog = () => east.envoy?.lines.filter((line) => line.startsWith('{')) ?? [];
  expect(accessLog().length).toBeGreaterThan(0);
  const undecided = accessLog().filter((line) => /"decision":(null|"unknown")/.test(line));
  // The status URI is Envoy's to answer until a sidecar has seen its first poll.
  expect(undecided.filter((line) => !line.includes('"path":"/local_pool_status"'))).toEqual([]);
  const reloads = east.sidecar().lines.filter((line) => line.includes('config reloaded: '));
  expect(reloads).toHaveLength(20);
  console.log(`20 reloads within ${report.requests} requests: none lost, no decision skipped`);
});

test('a session whose owner is down is refused as soon as on_owner_down says so', async () => {
  const { east, west } = lab;
  const client = new Client();
  expect((await client.ask(west.url)).site).toBe('west');
  await west.stopPool();
  await east.waitForRemote('down');
  await writeConfig(east, (file) => (file.on_owner_down = 'refuse'));
  await reload(east);
  expect((await client.request(east.url)).status).toBe(503);
  await writeConfig(east, (file) => (file.on_owner_down = 'keep'));
  await reload(east);
  expect((await client.ask(east.url)).site).toBe('east');
  client.close();
  await west.startPool();
  await east.waitForRemote('up');
});
