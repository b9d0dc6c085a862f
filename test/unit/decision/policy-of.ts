import type { BothCookies, OnOwnerDown } from '../../../src/config/config.ts';
import { createPolicy, type Policy } from '../../../src/decision/policy.ts';
import { onlyApplication } from '../../support/only-application.ts';

/** A site by its name and the name of its cookie. */
export interface NamedSite {
  readonly name: string;
  readonly cookie: string;
}

export interface Settings {
  readonly onOwnerDown: OnOwnerDown;
  readonly bothCookies: BothCookies;
}

const policies = new Map<string, Policy>();

/** The policy of the site `local`, made from a config file as `serve` makes it; each one is made once. */
export function policyOf(local: NamedSite, remotes: readonly NamedSite[], settings: Settings): Policy {
  const file = configFile(local, remotes, settings);
  let policy = policies.get(file);
  if (policy === undefined) {
    policy = createPolicy(onlyApplication(file));
    policies.set(file, policy);
  }
  return policy;
}

function configFile(local: NamedSite, remotes: readonly NamedSite[], settings: Settings): string {
  const lines = [
    `site: ${local.name}`,
    `on_owner_down: ${settings.onOwnerDown}`,
    `both_cookies: ${settings.bothCookies}`,
    `local_pool: { cluster: local_pool, cookie: ${local.cookie} }`,
    'remote_pools:',
    ...remotes.map(({ name, cookie }) => `  - { site: ${name}, cluster: pool_of_${name}, cookie: ${cookie} }`),
  ];
  return lines.join('\n');
}
