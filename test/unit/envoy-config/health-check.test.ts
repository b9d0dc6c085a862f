import { expect, test } from 'vitest';
import { stringify } from 'yaml';
import { applicationsOf } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { findByHost, hostTable } from '../../../src/config/virtual-hosts.ts';
import { healthCheckHost } from '../../../src/envoy-config/health-check.ts';

function hostsOfChecks(hosts: readonly (readonly string[])[]): { host: string; isItsOwn: boolean }[] {
  const applications = hosts.map((of, index) => ({
    ...{ name: `a${index}`, hosts: of, local_pool: { cookie: `E${index}` } },
    remote_pools: [
      { site: 'west', cookie: `W${index}`, servers: ['west.example.com:443'], tls: { sni: 'west.example.com' } },
    ],
  }));
  const config = parseConfig(stringify({ site: 'east', applications }), 'site.yaml');
  const table = hostTable(hosts);
  return applicationsOf(config).map((application, index) => {
    const [pool] = application.remotePools;
    const host = pool === undefined ? '' : healthCheckHost(application, pool);
    return { host, isItsOwn: findByHost(table, host) === index };
  });
}

test('another site is asked by a Host of the application itself', () => {
  const checks = hostsOfChecks([
    ['*.example.com'],
    ['*', 'www.rest.org'],
    ['shop.*'],
    ['mail.example.com', '*.mail.x'],
  ]);
  expect(checks).toEqual([
    { host: 'site-persistence.example.com', isItsOwn: true },
    { host: 'www.rest.org', isItsOwn: true },
    { host: 'shop.site-persistence', isItsOwn: true },
    { host: 'mail.example.com', isItsOwn: true },
  ]);
  expect(hostsOfChecks([['*.example.com'], ['*']])[1]).toEqual({ host: 'site-persistence.invalid', isItsOwn: true });
});

test('where no host has to be told apart, by the name that the other site has', () => {
  expect(hostsOfChecks([['*']])).toEqual([{ host: 'west.example.com', isItsOwn: true }]);
});
