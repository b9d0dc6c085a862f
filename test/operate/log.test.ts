import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let lab: TwoSites;

beforeAll(async () => {
  lab = await startTwoSites({ fastPath: false });
});
afterAll(async () => await lab?.close());

test('a sidecar that hung says that its Envoy has gone and come, and nothing of resets: health checks end so anyhow', async () => {
  const { east } = lab;
  const sidecar = east.sidecar();
  const healthy = () => east.stat('cluster.site_persistence.membership_healthy');
  const said = (what: string) => sidecar.lines.filter((line) => line.includes(what)).length;
  await sidecar.waitForLine(/Envoy connected: 127\.0\.0\.1:/);
  const came = said('Envoy connected: 127.0.0.1:');
  // Its health checks are requests, too, for a decision that Envoy would give up.
  lab.west.envoy?.signal('SIGSTOP');
  const asked = () => east.stat('http.edge.ext_proc.streams_started');
  await waitUntil(async () => (await asked()) === (await east.stat('http.edge.ext_proc.streams_closed')), {
    what: 'every decision to be made',
  });
  sidecar.signal('SIGSTOP');
  await waitUntil(async () => (await healthy()) === 0, { what: 'Envoy to take the sidecar out' });
  sidecar.signal('SIGCONT');
  await waitUntil(async () => (await healthy()) === 1, { what: 'Envoy to take the sidecar back' });
  const client = new Client();
  await waitUntil(
    async () => {
      await client.request(east.url);
      return said('Envoy connected: ') > came && said('Envoy disconnected: 127.0.0.1:') > 0;
    },
    { what: 'the log to say that Envoy has come again' },
  );
  client.close();
  lab.west.envoy?.signal('SIGCONT');
  expect(said('by reset')).toBe(0);
});

test('the log names the Envoy that asks, and at debug its id of each request', async () => {
  const { east } = lab;
  await east.sidecar().stop();
  await east.startSidecar(0, { LOG_LEVEL: 'debug' });
  const client = new Client();
  await waitUntil(
    async () => {
      await client.request(east.url, { headers: { 'x-request-id': 'asked-by-a-test' } });
      return east.sidecar().lines.some((line) => line.includes('"requestId":"asked-by-a-test"'));
    },
    { what: 'the decision with its id' },
  );
  client.close();
  const { lines } = east.sidecar();
  expect(lines.filter((line) => line.includes('Envoy connected: 127.0.0.1:')).length).toBeGreaterThan(0);
  const id = /"request_id":"asked-by-a-test"/;
  await waitUntil(() => east.envoy?.lines.some((line) => id.test(line)) === true, { what: "Envoy's line of it" });
});
