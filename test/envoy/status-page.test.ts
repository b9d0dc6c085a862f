import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { startSidecar } from '../../src/runtime/sidecar.ts';
import { configOf, eastFile, startAdmin, TestLog } from '../integration/site.ts';
import { accessibilityFaults, startBrowser, whyNoBrowser } from '../support/browser.ts';
import { Load } from '../support/load.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const PHONE = { width: 360, height: 640 };
const TIMEOUT_MS = 20_000;

const why = whyNoBrowser();
const isSkipped = why !== null && process.env.CI === undefined;
if (isSkipped) console.warn(`the status page is not tested: ${why}`);

describe.skipIf(isSkipped)('the status page', () => {
  let lab: TwoSites;
  let browser: Browser;
  /** What went wrong inside of pages: errors, and requests that left the sidecar. */
  const faults: string[] = [];

  beforeAll(async () => {
    browser = await startBrowser();
    lab = await startTwoSites();
  });
  afterEach(() => {
    expect(faults.splice(0)).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    await lab?.close();
  });

  /** Opens the page for the running test, and waits until it shows the site. */
  async function open(options: BrowserContextOptions = {}, url = `${lab.east.opsUrl}/`): Promise<Page> {
    const context = await browser.newContext(options);
    onTestFinished(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (line) => {
      if (line.type() === 'error' && !line.text().includes('net::ERR_')) faults.push(line.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(url)) faults.push(`asked for ${request.url()}`);
    });
    await page.goto(url);
    await page.getByRole('heading', { name: 'Site east' }).waitFor();
    return page;
  }

  function card(page: Page, site: string) {
    return page.getByRole('article', { name: site });
  }

  async function seen(page: Page, site: string, text: string | RegExp): Promise<void> {
    await card(page, site).getByText(text).first().waitFor();
  }

  test('shows both sites, their pools, and each server', async () => {
    const page = await open();
    await seen(page, 'east (this site)', 'pool local_pool: 2 of 2 servers up');
    await seen(page, 'west', 'pool remote_pool: 1 of 1 servers up');
    expect(
      await card(page, 'east (this site)')
        .getByRole('row', { name: /^127\.0\.0\.1:\d+ ● up$/ })
        .count(),
    ).toBe(2);
    expect(
      await card(page, 'west')
        .getByRole('row', { name: /^127\.0\.0\.1:\d+ ● up$/ })
        .count(),
    ).toBe(1);
    await page.getByText('✔ ready').waitFor();
    await page.getByText('not draining').waitFor();
    await page.getByText(/^site-persistence \d+\.\d+\.\d+, running since/).waitFor();
  });

  test('follows a pool that goes down and comes back, and says so to a screen reader', async () => {
    const page = await open();
    await seen(page, 'east (this site)', '● up');
    await lab.east.stopPool();
    await seen(page, 'east (this site)', /^▲ down$/);
    await seen(page, 'east (this site)', 'pool local_pool: 0 of 2 servers up');
    await seen(page, 'east (this site)', '▲ down: failed active health check');
    const message = /pool local_pool \(east\) is down: 0 of 2 servers up/;
    await page.getByRole('listitem').filter({ hasText: message }).waitFor();
    await page.getByRole('status').filter({ hasText: message }).waitFor();

    await lab.east.startPool();
    await seen(page, 'east (this site)', 'pool local_pool: 2 of 2 servers up');
    await page
      .getByRole('status')
      .filter({ hasText: /pool local_pool \(east\) is up: 2 of 2/ })
      .waitFor();
    await lab.ready();
  });

  test('shows decisions a second by kind, in the table and as a line of the graph', async () => {
    const page = await open();
    const urls = lab.sites.map((site) => site.url);
    const load = await Load.start({ clients: 4, homes: urls, edges: urls, pauseMs: 2 });
    for (const kind of ['local', 'forward']) {
      await page.getByRole('row', { name: new RegExp(`^${kind} .* [1-9][\\d.,]* [1-9][\\d.,]*$`) }).waitFor();
      await page.locator(`#graph path.${kind}[d*="L"]`).waitFor({ state: 'attached' });
    }
    expect(await page.locator('#graph path.adopt').getAttribute('d')).toBe('');
    await load.stop();
  });

  test('shows a drain with its end, and its end when it comes', async () => {
    const page = await open();
    await fetch(`${lab.east.opsUrl}/drain?for=3s`, { method: 'POST' });
    await page.getByText(/▼ Draining since \d\d:\d\d:\d\d, until \d\d:\d\d:\d\d \(\d s left\)/).waitFor();
    await page.getByText('▼ draining', { exact: true }).waitFor();
    await page.getByText('not draining').waitFor();
    expect(await page.locator('#drain').isVisible()).toBe(false);
    await page.getByRole('listitem').filter({ hasText: 'no longer draining: its time is over' }).first().waitFor();
    await lab.ready();
  });

  test('says when the sidecar is gone, and goes on by itself when it is back', async () => {
    const page = await open();
    await lab.east.sidecar().stop('SIGKILL');
    await page.getByRole('alert').filter({ hasText: 'No connection to the sidecar since' }).waitFor();
    expect(await accessibilityFaults(page)).toEqual([]);
    await lab.east.startSidecar();
    await page.getByRole('alert').waitFor({ state: 'hidden' });
    await page.getByRole('status').filter({ hasText: 'Connected to the sidecar again.' }).waitFor();
    await seen(page, 'east (this site)', 'pool local_pool: 2 of 2 servers up');
  });

  test('says when the sidecar hangs, and goes on by itself when it does not', async () => {
    const page = await open();
    lab.east.sidecar().signal('SIGSTOP');
    await page.getByRole('alert').filter({ hasText: 'No connection to the sidecar since' }).waitFor();
    lab.east.sidecar().signal('SIGCONT');
    await page.getByRole('alert').waitFor({ state: 'hidden' });
    await lab.ready();
  });

  test('fits a phone: nothing is wider than the screen', async () => {
    const page = await open({ viewport: PHONE, isMobile: true, deviceScaleFactor: 2 });
    await seen(page, 'west', '● up');
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(PHONE.width);
  });

  test('is dark for who wants it dark, light for who wants it light', async () => {
    const background = 'getComputedStyle(document.body).backgroundColor';
    const colors = await Promise.all(
      (['light', 'dark'] as const).map(async (colorScheme) => (await open({ colorScheme })).evaluate(background)),
    );
    expect(colors).toEqual(['rgb(246, 247, 249)', 'rgb(13, 17, 23)']);
  });

  test.each(['light', 'dark'] as const)('has no fault that axe knows, %s, whatever it shows', async (colorScheme) => {
    const page = await open({ colorScheme, reducedMotion: 'reduce' });
    await seen(page, 'west', '● up');
    expect(await accessibilityFaults(page)).toEqual([]);
    onTestFinished(async () => {
      await fetch(`${lab.east.opsUrl}/undrain`, { method: 'POST' });
      await lab.west.startPool();
      await lab.ready();
    });
    await fetch(`${lab.east.opsUrl}/drain?for=1h`, { method: 'POST' });
    await lab.west.stopPool();
    await seen(page, 'west', '▲ down');
    await page.getByText('▼ draining', { exact: true }).waitFor();
    expect(await accessibilityFaults(page)).toEqual([]);
  });

  test('has landmarks, and works with the keyboard alone', async () => {
    const page = await open();
    for (const role of ['banner', 'main', 'contentinfo', 'navigation'] as const) {
      expect([role, await page.getByRole(role).count()]).toEqual([role, 1]);
    }
    for (const name of ['Sites and their pools', 'Decisions a second', 'Last changes']) {
      expect([name, await page.getByRole('region', { name }).count()]).toEqual([name, 1]);
    }
    const focused = 'document.activeElement.textContent.trim()';
    await page.keyboard.press('Tab');
    expect(await page.evaluate(focused)).toBe('Skip to the pools');
    expect(await page.getByText('Skip to the pools').boundingBox()).toMatchObject({ x: expect.any(Number) });
    expect((await page.getByText('Skip to the pools').boundingBox())?.x).toBeGreaterThanOrEqual(0);
    expect(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle')).toBe('solid');
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
    const links: unknown[] = [];
    for (let press = 0; press < 2; press++) {
      await page.keyboard.press('Tab');
      links.push(await page.evaluate(focused));
    }
    expect(links).toEqual(['Metrics', 'State as JSON']);
  });

  test('shows what Envoy says as text, whatever it is', async () => {
    const admin = await startAdmin();
    const evil = '/<img src=x onerror="document.title=1">';
    admin.setPool('remote_pool', [{ state: 'ejected', address: evil }]);
    const config = configOf(await eastFile(admin));
    const sidecar = await startSidecar(config, new TestLog().logger);
    onTestFinished(() => sidecar.close());
    const { opsListen } = config;
    const page = await open({}, `http://127.0.0.1:${opsListen.kind === 'tcp' ? opsListen.port : 0}/`);
    await card(page, 'west').getByRole('rowheader', { name: evil, exact: true }).waitFor();
    await page.getByRole('listitem').filter({ hasText: evil }).first().waitFor();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.title()).toMatch(/^(⚠ )?Site east$/);
  });
});
