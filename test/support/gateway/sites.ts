import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSiteNetworks, type SiteNetwork } from './networks.ts';
import type { SiteName } from './recipe.ts';
import type { GatewaySite } from './site.ts';

export interface GatewaySites {
  readonly east: GatewaySite;
  readonly west: GatewaySite;
  /** Starts again what a test has stopped, and waits until both sites see each other up. */
  restore(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts two sites, each in a network namespace of its own, and returns when both serve and see each other.
 * @param create a site that writes its files to the directory
 */
export async function startGatewaySites(
  create: (name: SiteName, network: SiteNetwork, directory: string) => GatewaySite,
): Promise<GatewaySites> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-gateways-'));
  const networks = await createSiteNetworks({ east: 'gateway.east.example.com', west: 'gateway.west.example.com' });
  const sites = await Promise.all(
    (['east', 'west'] as const).map(async (name) => {
      await mkdir(join(directory, name));
      return create(name, networks[name], join(directory, name));
    }),
  );
  const [east, west] = sites as [GatewaySite, GatewaySite];

  async function close(): Promise<void> {
    await Promise.all(sites.map((site) => site.close()));
    networks.close();
    await rm(directory, { recursive: true, force: true });
  }
  async function ready(): Promise<void> {
    for (const site of sites) {
      await site.waitForPools('up', 'up');
      await site.waitUntilReady();
    }
  }
  async function restore(): Promise<void> {
    for (const site of sites) {
      if (site.apps.some((app) => !app.isReady)) await site.startApps();
      if (site.sidecar.hasEnded) await site.startSidecar();
    }
    await ready();
  }
  try {
    await Promise.all(
      sites.map(async (site) => {
        await Promise.all([site.startApps(), site.startGateway()]);
        await site.startSidecar();
      }),
    );
    await ready();
  } catch (error) {
    const failure = east.failure(error instanceof Error ? error.message : String(error));
    await close();
    throw failure;
  }
  return { east, west, restore, close };
}
