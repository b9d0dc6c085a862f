import type { ManagedProcess } from '../../lab/managed-process.ts';
import { startAppServer } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { freePorts } from './free-ports.ts';
import { type ConfigFile, type LabOptions, type SiteLab, startTwoSites, type TwoSites } from './two-sites.ts';

export const SHOP = 'shop.example.com';
export const MAIL = 'mail.example.com';

/** Two sites with two applications, `shop` and `mail`, each with servers of its own. The lab's own servers are shop's. */
export interface TwoApplications extends TwoSites {
  startMail(site: SiteLab): Promise<void>;
  stopMail(site: SiteLab): Promise<void>;
  /** Waits until this site's sidecar says so of an application's pool. */
  waitForPool(site: SiteLab, cluster: string, state: 'up' | 'down'): Promise<void>;
}

type Site = 'east' | 'west';

const OTHER = { east: 'west', west: 'east' } as const;

export async function startTwoApplications(options: LabOptions = {}): Promise<TwoApplications> {
  const [eastMail = 0, westMail = 0] = await freePorts(2);
  const ports = { east: eastMail, west: westMail };
  const mail: Partial<Record<Site, ManagedProcess>> = {};
  const start = async (site: Site) => {
    mail[site] = await startAppServer({ site, server: 'mail-1', port: ports[site] });
  };
  const stop = async (site: Site) => void (await mail[site]?.stop('SIGKILL'));
  await Promise.all([start('east'), start('west')]);
  const stopBoth = async () => void (await Promise.all([stop('east'), stop('west')]));
  try {
    const lab = await startTwoSites({
      ...options,
      host: SHOP,
      configure: (file, site) => {
        options.configure?.(file, site);
        addApplications(file, site, ports[site]);
      },
    });
    const two: TwoApplications = {
      ...lab,
      startMail: (site) => start(site.name),
      stopMail: (site) => stop(site.name),
      async waitForPool(site, cluster, state) {
        const isSo = async () =>
          (await site.state()).pools.some((pool) => pool.cluster === cluster && pool.up === (state === 'up'));
        await waitUntil(isSo, { what: `${site.name} to see ${cluster} ${state}` });
      },
      async close() {
        await Promise.all([lab.close(), stopBoth()]);
      },
    };
    for (const site of two.sites) {
      await two.waitForPool(site, 'mail_local', 'up');
      await two.waitForPool(site, `mail_${OTHER[site.name]}`, 'up');
    }
    return two;
  } catch (error) {
    await stopBoth();
    throw error;
  }
}

/** Replaces the file's only application by shop, with its pools, and mail. */
function addApplications(file: ConfigFile, site: Site, mailPort: number): void {
  const { local_pool, remote_pools } = file;
  const other = OTHER[site];
  file.applications = [
    { name: 'shop', hosts: [SHOP, `*.${SHOP}`], local_pool, remote_pools },
    {
      name: 'mail',
      hosts: [MAIL],
      status_uri: '/mail_status',
      local_pool: {
        cookie: `MAIL${site}`,
        servers: [`127.0.0.1:${mailPort}`],
        health_check: { path: '/healthz' },
      },
      // As the first one is reached, such as with TLS.
      remote_pools: remote_pools.map(({ cluster: _, ...pool }) => ({ ...pool, site: other, cookie: `MAIL${other}` })),
    },
  ];
  Reflect.deleteProperty(file, 'local_pool');
  Reflect.deleteProperty(file, 'remote_pools');
}
