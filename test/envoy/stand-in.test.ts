import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Client, serverOf } from '../support/client.ts';
import { startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** In the moment before anyone has noticed that a session's owner is dead, Envoy alone must do what the sidecar would. */
describe.each(['1.40.0', '1.38.3', '1.36.4'] as const)('the owner dies unnoticed (Envoy %s)', (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());
  afterEach(async () => await lab.restore());

  test.each([true, false])('its session is adopted with the first request, sidecar running: %s', async (isRunning) => {
    const client = new Client();
    const before = await client.ask(lab.east.url);
    if (!isRunning) await lab.west.sidecar().stop('SIGKILL');
    await lab.east.stopPool();

    const answer = await client.request(`${lab.west.url}/set-cookie`, { method: 'POST', body: 'x'.repeat(10_000) });
    expect(answer.status).toBe(200);
    const adopted = JSON.parse(answer.body);
    expect(adopted).toMatchObject({ site: 'west', method: 'POST', hop: null, bodyBytes: 10_000 });
    expect(adopted.headers).not.toHaveProperty('x-site-pool');
    expect(adopted.headers['x-forwarded-for']).toBe(before.headers['x-forwarded-for']);
    expect([...client.cookies.keys()].sort()).toEqual([WEST_COOKIE, 'app', 'theme'].sort());

    for (let count = 0; count < 10; count++) {
      expect(serverOf(await client.ask(lab.west.url))).toBe(serverOf(adopted));
    }
    await lab.east.waitForStatus(503);
    await lab.east.startPool();
    if (!isRunning) await lab.west.startSidecar();
    await lab.ready();
    for (const edge of lab.sites) expect(serverOf(await client.ask(edge.url))).toBe(serverOf(adopted));
    client.close();
  });

  test('its session is adopted where its Envoy was killed, too', async () => {
    const client = new Client();
    await client.ask(lab.east.url);
    await lab.east.envoy?.stop('SIGKILL');
    const adopted = await client.ask(lab.west.url);
    expect(adopted).toMatchObject({ site: 'west', hop: null });
    expect([...client.cookies.keys()]).toEqual([WEST_COOKIE]);
    expect(serverOf(await client.ask(lab.west.url))).toBe(serverOf(adopted));
    client.close();
  });

  test('where no site can serve, the session keeps its cookie', async () => {
    const client = new Client();
    await client.ask(lab.east.url);
    const before = [...client.cookies];
    await Promise.all(lab.sites.map((site) => site.stopPool()));
    const answer = await client.request(lab.west.url);
    expect(answer.status).toBe(503);
    expect([...client.cookies]).toEqual(before);
    client.close();
  });
});
