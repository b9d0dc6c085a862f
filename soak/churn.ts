import type { HopCertificates } from '../test/support/hop-certificates.ts';
import { reload, writeConfig } from '../test/support/reload.ts';
import type { SiteLab, TwoSites } from '../test/support/two-sites.ts';
import type { ChurnKind } from './schedule.ts';

/** Of a site's two sidecars the second is restarted; the first runs from beginning to end. */
export const RESTARTED_SIDECAR = 1;

export interface Churned {
  readonly lab: TwoSites;
  readonly certificates: HopCertificates;
  /** Where the load goes, which a global load balancer would keep: a site whose Envoy is killed is taken out. */
  readonly edges: string[];
}

/** Does it, and returns when both sites are whole again and see each other. */
export async function perform(
  kind: ChurnKind,
  { lab, certificates, edges }: Churned,
  name: 'east' | 'west',
): Promise<void> {
  const site = lab[name];
  const other = name === 'east' ? lab.west : lab.east;
  switch (kind) {
    case 'pool':
      await site.stopPool();
      await Promise.all([site.waitForStatus(503), other.waitForRemote('down')]);
      await site.startPool();
      break;
    case 'server':
      await site.apps[0]?.stop('SIGKILL');
      await site.startApp(0);
      break;
    case 'envoy':
      edges.splice(edges.indexOf(site.url), 1);
      await site.envoy?.stop('SIGKILL');
      await other.waitForRemote('down');
      await site.startEnvoy();
      break;
    case 'sidecar killed':
      await restartSidecar(site, 'SIGKILL');
      break;
    case 'sidecar stopped':
      await restartSidecar(site, 'SIGTERM');
      break;
    case 'certificates':
      await certificates.renew(name);
      break;
    case 'reload':
      await changeConfig(site);
      break;
  }
  await lab.ready();
  if (!edges.includes(site.url)) edges.push(site.url);
}

async function restartSidecar(site: SiteLab, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const { code } = await site.sidecar(RESTARTED_SIDECAR).stop(signal);
  if (signal === 'SIGTERM' && code !== 0) throw new Error(`${site.name}'s sidecar ended with ${code} after SIGTERM`);
  await site.startSidecar(RESTARTED_SIDECAR);
}

/** Another rule and other polls, then a file with a mistake that is refused, then the same without it. */
async function changeConfig(site: SiteLab): Promise<void> {
  let rule: 'local' | 'remote' = 'local';
  await writeConfig(site, (file) => {
    rule = file.both_cookies === 'local' ? 'remote' : 'local';
    Object.assign(file, { both_cookies: rule, health: { poll_interval: rule === 'local' ? '200ms' : '250ms' } });
  });
  await reload(site);
  for (const bothCookies of ['sometimes', rule]) {
    await writeConfig(site, (file) => Object.assign(file, { both_cookies: bothCookies }));
    await reload(site);
  }
}
