import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { formatAddress } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';

const SITE = 'deploy/systemd/site.yaml';

function unit(name: string): string {
  return readFileSync(`deploy/systemd/${name}.service`, 'utf8');
}

/** The one value of a setting or of an option. */
function onlyMatch(text: string, pattern: RegExp): string {
  const [[, value = ''] = [], ...more] = text.matchAll(pattern);
  expect(more).toEqual([]);
  return value;
}

test('the config file of the systemd units is a good one, and its sockets and directories are those of the units', () => {
  const config = parseConfig(readFileSync(SITE, 'utf8'), SITE, 'rendering');
  const sidecar = unit('site-persistence@');
  const envoy = unit('site-persistence-envoy');
  const listen = onlyMatch(sidecar, / --listen (\S+)/g);
  const opsListen = onlyMatch(sidecar, /^ExecStart=.* --ops-listen (\S+)/gm);
  expect(config.envoy.sidecars.map(formatAddress)).toEqual(['1', '2'].map((name) => listen.replace('%i', name)));
  expect(formatAddress(config.opsListen)).toBe(opsListen.replace('%i', '1'));
  expect(formatAddress(config.envoy.admin)).toBe(
    `unix:/run/${onlyMatch(envoy, /^RuntimeDirectory=(\S+)/gm)}/admin.sock`,
  );
  expect(config.envoy.configDir).toBe(`/var/lib/${onlyMatch(sidecar, /^StateDirectory=(\S+)/gm)}/envoy`);
});
