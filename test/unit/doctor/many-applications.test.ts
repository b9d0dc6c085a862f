import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../../src/config/load.ts';
import { examineOverlay } from '../../../src/doctor/examine-overlay.ts';
import { printFile } from '../../../src/envoy-config/print.ts';

/** An overlay's text for a site of so many applications. */
function siteOf(count: number) {
  const applications = Array.from({ length: count }, (_, index) => ({
    ...{ name: `a${index}`, hosts: [`a${index}.example.com`] },
    local_pool: { cookie: `L${index}`, servers: ['10.0.0.1:80'] },
    remote_pools: [{ site: 'west', cookie: `R${index}`, servers: ['10.0.0.2:80'] }],
  }));
  const envoy = { listen: '127.0.0.1:80' };
  const config = parseConfig(JSON.stringify({ site: 'east', applications, envoy }), 'site.yaml', 'rendering');
  const text = 'static_resources: { listeners: [{ name: edge, per_connection_buffer_limit_bytes: 2000000 }] }';
  const overlay = { kind: 'overlay', file: 'extra.yaml', text, content: parse(text) } as const;
  return { ...config, envoy: { ...config.envoy, overlay } };
}

/** In milliseconds of this process, the second time: the first is that of a cold start. */
function cpuMsOf(work: () => void): number {
  work();
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/** Of four times as much: what grows with the square takes sixteen times as long. */
const MAX_TIMES = 8;

test('four times the applications with an overlay are examined in about four times as long', () => {
  const [few, many] = [siteOf(25), siteOf(100)];
  const fewMs = cpuMsOf(() => expect(examineOverlay(few, 0)).toEqual([]));
  const manyMs = cpuMsOf(() => expect(examineOverlay(many, 0)).toEqual([]));
  expect(manyMs / fewMs).toBeLessThan(MAX_TIMES);
});

test('four times the references are printed in about four times as long', () => {
  const config = siteOf(1);
  const twice = (index: number) => {
    const part = { name: `${index}`, text: 'x'.repeat(200) };
    return { one: part, other: { ...part } };
  };
  const print = (count: number) => () => {
    const resources = Array.from({ length: count }, (_, index) => twice(index));
    const { text } = printFile({ name: 'clusters.yaml', kind: 'clusters', resources }, config);
    expect(text).toContain(`*same${count}`);
  };
  expect(cpuMsOf(print(8_000)) / cpuMsOf(print(2_000))).toBeLessThan(MAX_TIMES);
});
