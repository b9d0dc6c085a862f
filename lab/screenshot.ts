import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { startBrowser } from '../test/support/browser.ts';
import { Client } from '../test/support/client.ts';
import { reload, writeConfig } from '../test/support/reload.ts';
import { type ConfigFile, startTwoSites, type TwoSites } from '../test/support/two-sites.ts';
import { CLI } from './site-processes.ts';
import { shrinkPng } from './small-png.ts';

const ROOT = CLI.replace(/dist\/main\.js$/, '');
const OUT = `${ROOT}docs/status-page`;
/** The scenes that are asked for by name; none: all. */
const ASKED = process.argv.slice(2);
const DESKTOP = { viewport: { width: 1280, height: 720 }, colorScheme: 'light' } as const;
const DARK = { ...DESKTOP, colorScheme: 'dark' } as const;
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, colorScheme: 'light' } as const;
const STEADY_MS = 20_000;
const CLIENTS_PER_SITE = 4;

interface Look {
  /** What its file's name has behind the scene's. */
  readonly suffix: string;
  readonly context: BrowserContextOptions;
  /** Also what is below the first screen. */
  readonly isWhole?: boolean;
  readonly prepare?: ((page: Page, lab: TwoSites) => Promise<void>) | undefined;
}

interface Scene {
  readonly name: string;
  /** What the page says first, when it is what it is a picture of. */
  readonly verdict: string;
  /** What it says further down; by default nothing. */
  readonly detail?: RegExp;
  /** Makes it happen. @returns what ends it */
  readonly begin: (lab: TwoSites) => Promise<(() => Promise<void>) | undefined>;
  /** What happens when the page is open already. */
  readonly prepare?: Look['prepare'];
  readonly looks?: readonly Look[];
}

const SCENES: readonly Scene[] = [
  {
    name: 'well',
    verdict: 'East serves its clients.',
    begin: async () => {
      await sleep(STEADY_MS);
      return undefined;
    },
    looks: [
      {
        ...{ suffix: '-drain', context: DESKTOP },
        prepare: async (page) => {
          await page.getByRole('button', { name: 'Drain east' }).click();
          await page.getByLabel('Reason').fill('kernel update');
        },
      },
    ],
  },
  {
    name: 'draining',
    verdict: "Draining: new clients go elsewhere, [1-9]\\d* requests of east's sessions in the last minute.",
    begin: async ({ east }) => {
      const settings = new URLSearchParams({ for: '30m', reason: 'kernel update, ticket 4711' });
      await fetch(`${east.opsUrl}/drain?${settings}`, { method: 'POST' });
      return async () => {
        await fetch(`${east.opsUrl}/undrain`, { method: 'POST' });
      };
    },
  },
  {
    name: 'pool-down',
    verdict: "East's pool is down: west serves its clients.",
    detail: /failed active health check: .*connection refused/i,
    begin: async ({ east }) => {
      await east.stopPool();
      return undefined;
    },
    looks: [
      { suffix: '-dark', context: DARK },
      { suffix: '-phone', context: PHONE },
      {
        ...{ suffix: '-whole', context: DESKTOP, isWhole: true },
        prepare: async (page) => void (await page.getByLabel('Over the last').selectOption('2 minutes')),
      },
    ],
  },
  {
    name: 'site-down',
    verdict: 'East serves its clients; west is down.',
    detail: /failed active health check: .*connection refused/i,
    begin: async ({ west }) => {
      await west.envoy?.stop('SIGKILL');
      return undefined;
    },
  },
  {
    name: 'nobody',
    verdict: 'Nobody serves: all pools down, clients get 503.',
    detail: /failed active health check: .*503/,
    begin: async ({ east, west }) => {
      await Promise.all([east.stopPool(), west.stopPool()]);
      return undefined;
    },
  },
  {
    name: 'envoy-gone',
    verdict: 'Health is not known: Envoy decides by its own health checks.',
    begin: async ({ east }) => {
      await east.envoy?.stop('SIGKILL');
      return undefined;
    },
  },
  {
    name: 'sidecar-gone',
    verdict: 'East serves its clients.',
    begin: async () => undefined,
    prepare: async (page, { east }) => {
      await east.sidecar().stop('SIGKILL');
      await says(page, '#lost', /^. No connection to the sidecar since/);
    },
  },
  {
    name: 'held',
    verdict: 'East serves its clients; west is held: its uplink flaps.',
    begin: async ({ east }) => {
      const settings = new URLSearchParams({ site: 'west', for: '2h', reason: 'its uplink flaps' });
      await fetch(`${east.opsUrl}/hold?${settings}`, { method: 'POST' });
      return async () => {
        await fetch(`${east.opsUrl}/release?site=west`, { method: 'POST' });
      };
    },
  },
  {
    name: 'held-back',
    verdict: "East's pool is down: west serves its clients.",
    begin: async ({ east }) => {
      const holdUp = async (time: string) => {
        await writeConfig(east, (file) => {
          file.health.hold_up = time;
        });
        await reload(east);
      };
      await holdUp('60s');
      await east.stopPool();
      await east.waitForStatus(503);
      await east.startPool();
      return async () => await holdUp('0s');
    },
    prepare: async (page) => await says(page, '.countdown', /^up in 5\d s$/),
  },
  {
    name: 'server-fails',
    verdict: 'East serves its clients.',
    detail: /failed active health check: answered 503/,
    begin: async ({ east }) => {
      const address = (await east.state()).pools[0]?.hosts[1]?.address ?? '';
      await east.apps[1]?.stop('SIGKILL');
      const sick = createServer((_, response) => response.writeHead(503).end('no database\n'));
      await new Promise<void>((resolve) => sick.listen(Number(address.split(':')[1]), '127.0.0.1', () => resolve()));
      return async () => {
        sick.closeAllConnections();
        await new Promise((resolve) => sick.close(resolve));
        await east.startApp(1);
      };
    },
  },
];

/** Takes the pictures of docs/status-page.md: the page of site east, in traffic, while things happen to real processes. */
async function main(): Promise<void> {
  await mkdir(OUT, { recursive: true });
  const lab = await startTwoSites({ configure: withButtons });
  const browser = await startBrowser();
  const stop = new AbortController();
  const traffic = lab.sites.flatMap(({ url }) =>
    Array.from({ length: CLIENTS_PER_SITE }, (_, index) => visit(lab, url, index, stop.signal)),
  );
  try {
    for (const scene of SCENES.filter(({ name }) => ASKED.length === 0 || ASKED.includes(name))) {
      const end = await scene.begin(lab);
      const { prepare, looks = [] } = scene;
      for (const look of [{ suffix: '', context: DESKTOP, prepare }, ...looks]) {
        await take(browser, lab, scene, look);
      }
      await end?.();
      await lab.restore();
    }
  } finally {
    stop.abort();
    await Promise.all(traffic);
    await browser.close();
    await lab.close();
  }
}

function withButtons(file: ConfigFile): void {
  file.ops_buttons = true;
}

async function take(browser: Browser, lab: TwoSites, { name, verdict, detail }: Scene, look: Look): Promise<void> {
  const file = `${OUT}/${name}${look.suffix}.png`;
  const context = await browser.newContext(look.context);
  try {
    const page = await context.newPage();
    await page.goto(lab.east.opsUrl);
    await says(page, '#verdict', new RegExp(`^. ${verdict}$`));
    if (detail !== undefined) await says(page, 'article td', detail);
    await says(page, '#timeline', /./);
    await look.prepare?.(page, lab);
    await writeFile(file, shrinkPng(await page.screenshot({ fullPage: look.isWhole ?? false })));
    process.stdout.write(`${file}\n`);
  } finally {
    await context.close();
  }
}

async function says(page: Page, selector: string, text: RegExp): Promise<void> {
  await page.locator(selector).filter({ hasText: text }).first().waitFor();
}

/** A client with a session at its home, which asks both sites; more and less of them, so that the lines are no straight ones. */
async function visit({ sites }: TwoSites, home: string, index: number, signal: AbortSignal): Promise<void> {
  const edges = [home, ...sites.map(({ url }) => url).filter((url) => url !== home)];
  const client = new Client();
  for (let turn = index; !signal.aborted; turn++) {
    // A new session now and then: those of a site that was down have moved.
    if (turn % 100 === 0) client.cookies.clear();
    await client.request(edges[turn % 3 === 0 ? 1 : 0] ?? home).catch(() => {});
    await sleep(20 + 12 * (1 + Math.sin(Date.now() / 3_000 + index)));
  }
  client.close();
}

await main();
