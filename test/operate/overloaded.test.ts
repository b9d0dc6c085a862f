import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { type EnvoyRelease, patchYaml, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

interface Bootstrap {
  readonly overload_manager: { readonly resource_monitors: { readonly name: string; typed_config: unknown }[] };
}

/** Another site takes what an Envoy refuses before it has looked at it, also in the moment before its health checks fail. */
describe.each<EnvoyRelease>(['1.36.4', '1.40.0'])('an Envoy whose heap is full, Envoy %s', (envoyVersion) => {
  let lab: TwoSites;
  let directory: string;

  /** Envoy reads it from a file here instead of from its heap. @param share of the heap */
  async function fillHeap(share: number): Promise<void> {
    await writeFile(join(directory, 'new'), `${share}\n`);
    await rename(join(directory, 'new'), join(directory, 'heap'));
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'site-persistence-heap-'));
    await fillHeap(0);
    lab = await startTwoSites({
      envoyVersion,
      configure: ({ envoy }, site) => {
        if (site === 'east') envoy.limits = { heap: '1GiB' };
      },
      patchBootstrap: (text, site) => (site === 'west' ? text : patchYaml<Bootstrap>(readHeapFromFile)(text)),
    });
  });
  afterAll(async () => {
    await lab?.close();
    await rm(directory, { recursive: true, force: true });
  });

  function readHeapFromFile({ overload_manager }: Bootstrap): void {
    for (const monitor of overload_manager.resource_monitors) {
      if (monitor.name !== 'envoy.resource_monitors.fixed_heap') continue;
      const type = 'envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig';
      monitor.typed_config = { '@type': `type.googleapis.com/${type}`, filename: join(directory, 'heap') };
    }
  }

  test('refuses what other sites forward, and they serve it', async () => {
    const [owned, stranger] = [new Client(), new Client()];
    await owned.ask(lab.east.url);
    await fillHeap(1);
    await waitUntil(async () => (await stranger.request(lab.east.url)).body === 'envoy overloaded', {
      what: 'requests to be refused',
      intervalMs: 5,
    });
    const forwarded = await stranger.request(lab.east.url, { headers: { 'x-site-hop': 'west' } });
    expect(forwarded).toMatchObject({ status: 503, headers: { 'x-site-refused': 'east' } });
    const served = await owned.ask(lab.west.url, { method: 'POST', body: 'order' });
    expect(served).toMatchObject({ site: 'west', method: 'POST', bodyBytes: 5 });
    expect([...owned.cookies.keys()]).toEqual([WEST_COOKIE]);
    const direct = await stranger.request(lab.east.url);
    expect(direct.headers['x-site-refused']).toBeUndefined();
    for (const client of [owned, stranger]) client.close();
  });
});
