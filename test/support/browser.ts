import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { type Browser, chromium, type Page } from 'playwright-core';
import { z } from 'zod';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Why the tests in a browser can't run here; null where they can. What this machine is not equipped for is skipped,
 * except in CI, where it fails.
 */
export function whyNoBrowser(): string | null {
  if (existsSync(CHROMIUM)) return null;
  return `there is no ${CHROMIUM}: install Debian's package chromium, or name another Chromium with CHROMIUM=/path`;
}

/** Starts a browser with nothing in it yet. @throws Error that says how to get one */
export async function startBrowser(): Promise<Browser> {
  const why = whyNoBrowser();
  if (why !== null) throw new Error(why);
  // Chromium's sandbox does not work for root.
  const asRoot = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return await chromium.launch({ executablePath: CHROMIUM, args: [...asRoot, ...FLAGS] });
}

const axeResult = z.object({
  violations: z.array(z.object({ id: z.string(), help: z.string(), nodes: z.array(z.object({ html: z.string() })) })),
});

/** What axe-core finds wrong with a page for people with disabilities, one line each. */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  const source = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  await page.evaluate(source);
  const { violations } = axeResult.parse(await page.evaluate('axe.run()'));
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`);
}
