import { expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { startTwoSites } from '../support/two-sites.ts';

const MOST_MS = 2_000;

test('after a cold restart of Envoy health is known again in under 2 s', async () => {
  const lab = await startTwoSites();
  try {
    await lab.east.envoy?.stop('SIGKILL');
    await waitUntil(async () => !(await lab.east.state()).health_known, { what: 'health to be unknown' });
    await lab.east.startEnvoy();
    const readyAt = performance.now();
    await waitUntil(async () => (await lab.east.state()).health_known, { what: 'health to be known' });
    expect(performance.now() - readyAt).toBeLessThan(MOST_MS);
    await lab.ready();
    expect((await new Client().ask(lab.east.url)).site).toBe('east');
  } finally {
    await lab.close();
  }
});

test('through a hot restart of Envoy health stays known and no request is lost', async () => {
  const lab = await startTwoSites();
  const baseId = 1_000 + Math.floor(Math.random() * 10_000);
  try {
    await lab.east.envoy?.stop('SIGKILL');
    await lab.east.startEnvoy({ baseId, epoch: 0 });
    await lab.ready();
    const old = lab.east.envoy;
    const client = new Client();
    let oldestMs = 0;
    let isOver = false;
    const watching = (async () => {
      while (!isOver) {
        oldestMs = Math.max(oldestMs, (await lab.east.state()).health_age_ms ?? Number.POSITIVE_INFINITY);
        expect((await client.ask(lab.east.url)).site).toBe('east');
      }
    })();
    await lab.east.startEnvoy({ baseId, epoch: 1 });
    await old?.ended;
    isOver = true;
    await watching;
    expect(oldestMs).toBeLessThan(MOST_MS);
    client.close();
  } finally {
    await lab.close();
  }
});
