import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { waitUntil } from '../../lab/wait-until.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';
import { siteKey } from '../../src/contract.ts';
import type { Bench } from '../bench.ts';
import { startSidecars } from '../contestants.ts';
import { ownCookie } from '../correctness.ts';
import { type Edge, startEdge, type Timing } from '../edge.ts';
import { runLoad } from '../load.ts';
import { pidsOf, readDecisions } from '../measure.ts';
import { CLI } from '../paths.ts';
import { countInstructions, startCounting, underCallgrind } from './callgrind.ts';
import type { MeasuredCase } from './cases.ts';
import { hasSidecar, isSteady, withoutHurry } from './patches.ts';

const runtimeSchema = z.object({ entries: z.record(z.string(), z.object({ final_value: z.string() })) });

const CONNECTIONS = 4;
const WARM_UP = 300;
const REQUESTS = 2_000;

/** Under valgrind all is slow, and what comes by the clock falls on requests that have nothing to do with it. */
const PATIENT: Timing = {
  health: { poll_interval: '1s', stale_after: '1h' },
  healthCheck: { interval: '60s', timeout: '30s' },
};

export interface Measured {
  /** For a request, in each run. */
  readonly instructions: readonly number[];
  /** How often a request asks the sidecar. */
  readonly asks: 0 | 1;
}

/** Starts an Envoy of its own for the case, with its sidecar, and counts what a request costs it. */
export async function measureCase(bench: Bench, measured: MeasuredCase, runs: number): Promise<Measured> {
  const directory = await mkdtemp(join(bench.directory, 'case-'));
  const own = { ...bench, directory };
  let decides = false;
  let asks: 0 | 1 = 0;
  const edge = await startEdge(own, {
    name: 'counted',
    cli: CLI,
    fastPath: true,
    timing: PATIENT,
    opaqueCookie: measured.opaqueCookieOver !== undefined,
    under: underCallgrind(directory),
    patch(bootstrap) {
      withoutHurry(bootstrap);
      measured.patch(bootstrap);
      decides = hasSidecar(bootstrap);
      asks = measured.way === null || isSteady(bootstrap, measured.way) ? 0 : 1;
    },
  });
  const sidecars = decides ? await startSidecars(own, edge) : [];
  const [pid = 0] = pidsOf([edge.envoy]);
  await startCounting(pid, directory);
  if (decides) await waitForKeys(edge);
  const headers = measured.headers(await ownCookie({ name: measured.name, url: edge.url }));
  await expectRight(edge, measured, { headers, asks });

  const load = async (requests: number) => {
    await runLoad({ url: edge.url, connections: CONNECTIONS, requests, headers, directory });
  };
  await load(WARM_UP);
  const { answered: before } = await readDecisions(edge);
  const instructions: number[] = [];
  while (instructions.length < runs) {
    instructions.push((await countInstructions(pid, directory, () => load(REQUESTS))) / REQUESTS);
  }
  const asked = (await readDecisions(edge)).answered - before;
  if (asked !== asks * runs * REQUESTS) {
    throw new Error(`${measured.label}: the sidecar has decided ${asked} of ${runs * REQUESTS} requests`);
  }
  await Promise.all([...sidecars, edge.envoy].map((child) => child.stop('SIGKILL')));
  return { instructions, asks };
}

/** Until the sidecar has seen both sites up, and Envoy has it in its runtime, steady routes take no request. */
async function waitForKeys({ adminUrl }: Edge): Promise<void> {
  const keys = ['east', 'west'].map((site) => siteKey(DEFAULT_APPLICATION, site));
  await waitUntil(
    async () => {
      const { entries } = runtimeSchema.parse(await (await fetch(`${adminUrl}/runtime?format=json`)).json());
      return keys.every((key) => entries[key]?.final_value === '100');
    },
    { what: `Envoy to have ${keys.join(' and ')} set` },
  );
}

/** Whether the case's requests are what it says. */
async function expectRight(
  edge: Edge,
  { label, servedBy }: MeasuredCase,
  { headers, asks }: { readonly headers: Readonly<Record<string, string>>; readonly asks: number },
): Promise<void> {
  const before = await readDecisions(edge);
  const answer = await fetch(edge.url, { headers });
  await answer.arrayBuffer();
  const server = answer.headers.get('x-served-by') ?? 'nobody';
  const asked = (await readDecisions(edge)).answered - before.answered;
  if (server.startsWith(servedBy) && asked === asks) return;
  throw new Error(
    `${label}: ${server} served a request for ${servedBy}, and the sidecar was asked ${asked} times, not ${asks}`,
  );
}
