import { expect, test } from 'vitest';
import { startAppServer } from '../../lab/site-processes.ts';
import { freePorts } from '../support/free-ports.ts';
import { Load } from '../support/load.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { type ConfigFile, ENVOY_RELEASES, startTwoSites } from '../support/two-sites.ts';

const EDITS: readonly [string, (file: ConfigFile) => void][] = [
  ['a cluster that is replaced', ({ local_pool }) => (local_pool.connect_timeout = '2s')],
  ["a cookie's attributes", ({ local_pool }) => Object.assign(local_pool.cookie as object, { same_site: 'Lax' })],
  ['a listener that changes', ({ envoy }) => (envoy.merge_slashes = true)],
  [
    'another protocol to the other site',
    ({ remote_pools: [pool] }) => Object.assign(pool ?? {}, { protocol: 'http1' }),
  ],
  [
    'a third site',
    ({ remote_pools }) =>
      remote_pools.push({ site: 'north', cluster: 'north', cookie: 'NORTH', servers: ['127.0.0.1:1'] }),
  ],
  ['and less', ({ remote_pools }) => remote_pools.pop()],
];

/** Between them nothing of it differs. */
const RELEASES = ENVOY_RELEASES.filter((_, index) => index % 2 === 0);

test.each(RELEASES)('Envoy %s follows the file: nothing is lost, and no session moves', async (envoyVersion) => {
  const lab = await startTwoSites({ envoyVersion, configDir: true });
  const [port = 0] = await freePorts(1);
  const added = await startAppServer({ site: 'east', server: 'app-3', port, speaks: 'http1' });
  try {
    const edges = lab.sites.map(({ url }) => url);
    const load = await Load.start({ clients: 12, homes: edges, edges, pauseMs: 20 });
    for (const [, change] of EDITS) {
      await writeConfig(lab.east, change);
      await reload(lab.east);
      await load.during(100);
    }
    await writeConfig(lab.east, ({ local_pool }) => (local_pool.servers as string[]).push(`127.0.0.1:${port}`));
    await reload(lab.east);
    await expect.poll(async () => (await lab.east.state()).pools[0]?.servers_up, { timeout: 10_000 }).toBe(3);
    expect(lab.east.sidecar().lines.filter((line) => /rejected|goes on without/.test(line))).toEqual([]);
    expect(await load.stop()).toMatchObject({ lost: 0, losses: [], moved: 0 });
  } finally {
    await lab.close();
    await added.stop('SIGKILL');
  }
});
