import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { siteStateSchema } from '../../src/ops/state.ts';
import { startSidecar } from '../../src/runtime/sidecar.ts';
import {
  configOf,
  eastFile,
  manyApplications,
  QUICK_HEALTH,
  type SiteFile,
  setPoolsOfMany,
  startAdmin,
  TestLog,
  temporaryDirectory,
} from '../integration/site.ts';
import { accessibilityFaults, startBrowser, whyNoBrowser } from '../support/browser.ts';
import { TestCa } from '../support/certificates.ts';
import type { FakeAdmin } from '../support/fake-admin.ts';
import { Load } from '../support/load.ts';
import { startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

const PHONE = { width: 360, height: 640 };
const TIMEOUT_MS = 150_000;

// Beside others a browser with 200 applications takes its time.
vi.setConfig({ testTimeout: 300_000 });

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
  afterEach(async () => {
    const seen = faults.splice(0);
    await lab.restore();
    expect(seen).toEqual([]);
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
      const isExpected = /net::ERR_|status of 409/.test(line.text());
      if (line.type() === 'error' && !isExpected) faults.push(line.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(new URL(url).origin)) faults.push(`asked for ${request.url()}`);
    });
    await page.goto(url);
    await page.getByRole('heading', { name: 'Site east' }).waitFor();
    return page;
  }

  interface Started {
    readonly admin: FakeAdmin;
    /** Of its status page. */
    readonly url: string;
  }

  /** Starts a sidecar in this process for the running test. */
  async function startWith(prepare: (admin: FakeAdmin) => void, changes: SiteFile = {}): Promise<Started> {
    const admin = await startAdmin();
    prepare(admin);
    const config = configOf(await eastFile(admin, changes));
    const sidecar = await startSidecar(config, new TestLog().logger, async () => config);
    onTestFinished(() => sidecar.close());
    const { opsListen } = config;
    return { admin, url: `http://127.0.0.1:${opsListen.kind === 'tcp' ? opsListen.port : 0}/` };
  }

  function card(page: Page, site: string) {
    return page.getByRole('article', { name: site });
  }

  async function seen(page: Page, site: string, text: string | RegExp): Promise<void> {
    await card(page, site).getByText(text).first().waitFor();
  }

  test('says first what clients get, in the title and the icon too', async () => {
    const { admin, url } = await startWith(() => {});
    const page = await open({}, url);
    const verdict = page.locator('h1 + p');
    const shown = async () => [
      await verdict.textContent(),
      await page.title(),
      await page.locator('#icon').getAttribute('href'),
    ];
    await verdict.filter({ hasText: '● East serves its clients.' }).waitFor();
    await page.getByText('✔ ready').waitFor();
    expect(await shown()).toEqual(['● East serves its clients.', 'Site east', 'icon.svg']);
    expect(await page.getByRole('searchbox').count()).toBe(0);
    admin.setPool('local_pool', ['ejected']);
    await verdict.filter({ hasText: 'west serves' }).waitFor();
    expect(await shown()).toEqual(["▲ East's pool is down: west serves its clients.", '⚠ Site east', 'icon-warn.svg']);
    admin.setPool('remote_pool', ['ejected']);
    await verdict.filter({ hasText: 'Nobody serves' }).waitFor();
    expect(await shown()).toEqual([
      '✖ Nobody serves: all pools down, clients get 503.',
      '✖ Site east',
      'icon-down.svg',
    ]);
  });

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
    await page.getByRole('listitem').filter({ hasText: message }).first().waitFor();
    const said = page.getByRole('log');
    await said.filter({ hasText: message }).waitFor();

    await lab.east.startPool();
    await seen(page, 'east (this site)', 'pool local_pool: 2 of 2 servers up');
    await said.filter({ hasText: /pool local_pool \(east\) is up: 2 of 2/ }).waitFor();
    // A later text does not take the place of one that may still be read.
    expect(await said.textContent()).toMatch(message);
  });

  test('shows decisions a second by kind, in the table and as a line of the graph, and what became of sessions', async () => {
    const page = await open();
    const urls = lab.sites.map((site) => site.url);
    const load = await Load.start({ clients: 4, homes: urls, edges: urls, pauseMs: 2 });
    for (const kind of ['local', 'forward']) {
      await page.getByRole('row', { name: new RegExp(`^${kind} .* [1-9][\\d.,]* [1-9][\\d.,]*$`) }).waitFor();
      await page.locator(`#graph path.${kind}[d*="L"]`).waitFor({ state: 'attached' });
    }
    expect(await page.locator('#graph path.adopt').getAttribute('d')).toBe('');
    const sessions = page.getByRole('table', { name: 'Requests by what became of their session' });
    for (const kind of ['known', 'new', 'forwarded']) {
      await sessions.getByRole('row', { name: new RegExp(`^${kind} .* [\\d.,]+ [1-9][\\d.,]*$`) }).waitFor();
    }
    await sessions.getByRole('row', { name: /^server gone .* 0 0$/ }).waitFor();
    await load.stop();
  });

  test('reads a moment of the graph to those who point and to those who use the keyboard', async () => {
    const page = await open();
    const urls = lab.sites.map((site) => site.url);
    const load = await Load.start({ clients: 4, homes: urls, edges: urls, pauseMs: 2 });
    await page.locator('#graph path.local[d*="L"]').waitFor({ state: 'attached' });
    const reading = page.locator('#reading');
    const readsLocal = async () =>
      /^\d\d:\d\d:\d\d: .*local [\d.,]+.* a second$/.test((await reading.textContent()) ?? '');
    // Where now is; on a busy machine there are seconds without a decision.
    const { width = 0 } = (await page.locator('#graph').boundingBox()) ?? {};
    let x = width - 2;
    await waitUntil(
      async () => {
        x = x > width - 20 ? x - 1 : width - 2;
        await page.locator('#graph').hover({ position: { x, y: 20 } });
        return await readsLocal();
      },
      { what: 'the values where the pointer is' },
    );
    await page.locator('h1').hover();
    await reading.filter({ hasText: /^$/ }).waitFor({ state: 'attached' });
    const slider = page.getByRole('slider', { name: 'Read a moment: seconds before now' });
    await slider.focus();
    await page.keyboard.press('ArrowLeft');
    expect(await slider.inputValue()).toBe('-5');
    await waitUntil(
      async () => {
        await page.keyboard.press((await slider.inputValue()) === '-60' ? 'End' : 'ArrowLeft');
        return await readsLocal();
      },
      { what: 'the values where the slider is' },
    );
    await load.stop();
  });

  test("leaves the probes' line out of the graph unless it is asked for", async () => {
    const page = await open({}, `${lab.east.opsUrl}/`);
    const asking = setInterval(() => void fetch(`${lab.east.url}/local_pool_status`).catch(() => {}), 20);
    onTestFinished(() => clearInterval(asking));
    await page.getByRole('row', { name: /^status .* [1-9][\d.,]* [1-9][\d.,]*$/ }).waitFor();
    expect(await page.locator('#graph path.status').getAttribute('d')).toBe('');
    await page.getByRole('checkbox', { name: 'with the probes of the status URI' }).check();
    await page.locator('#graph path.status[d*="L"]').waitFor({ state: 'attached' });
  });

  test('says of which time pools and servers are while Envoy does not answer, and greys them', async () => {
    const { admin, url } = await startWith(() => {});
    const page = await open({}, url);
    await seen(page, 'east (this site)', '● up');
    admin.mood = 'silent';
    await page.getByText(/^\? Envoy last answered \d+ s ago: pools and servers are as last seen then\.$/).waitFor();
    const isFaint = `(() => {
      const colour = (element) => getComputedStyle(element).color;
      return colour(document.querySelector('article td')) === colour(document.querySelector('footer'));
    })()`;
    expect(await page.evaluate(isFaint)).toBe(true);
    admin.mood = 'well';
    await page.locator('#stale').waitFor({ state: 'hidden' });
  });

  test('shows the last changes above the graph, the newest few at first, and links to the other sites', async () => {
    const west = {
      site: 'west',
      cluster: 'remote_pool',
      cookie: WEST_COOKIE,
      ops_url: 'https://west-ops.example.com:9003',
    };
    const { admin, url } = await startWith(() => {}, { remote_pools: [west] });
    const page = await open({}, url);
    await seen(page, 'west', '● up');
    expect(await card(page, 'west').getByRole('link', { name: 'west' }).getAttribute('href')).toBe(
      'https://west-ops.example.com:9003/',
    );
    for (let times = 0; times < 5; times++) {
      admin.setPool('remote_pool', ['ejected']);
      await seen(page, 'west', /^▲ down$/);
      admin.setPool('remote_pool', ['up']);
      await seen(page, 'west', '● up');
    }
    const changes = page.getByRole('region', { name: 'Last changes' });
    const more = changes.getByRole('button', { name: /\d+ more$/ });
    await more.waitFor();
    expect(await changes.getByRole('listitem').count()).toBe(6);
    await more.click();
    await changes.getByRole('button', { name: /Fewer$/ }).waitFor();
    expect(await changes.getByRole('listitem').count()).toBeGreaterThan(9);
    const top = async (name: string) => (await page.getByRole('region', { name }).boundingBox())?.y ?? 0;
    expect(await top('Last changes')).toBeLessThan(await top('Decisions a second'));
  });

  test('shows how each pool was before the page was opened, in words and as a line, and goes on with it', async () => {
    const { admin, url } = await startWith(() => {});
    const isUp = async () => siteStateSchema.parse(await (await fetch(`${url}api/state`)).json()).pools[1]?.up;
    await waitUntil(async () => (await isUp()) === true, { what: 'west to be up' });
    admin.setPool('remote_pool', ['ejected']);
    await waitUntil(async () => (await isUp()) === false, { what: 'west to be down' });
    admin.setPool('remote_pool', ['up']);
    await waitUntil(async () => (await isUp()) === true, { what: 'west to be up again' });
    const page = await open({}, url);
    const pools = page.getByRole('list', { name: 'How the pools were' });
    const told = (text: RegExp) => pools.getByRole('listitem').filter({ hasText: text }).waitFor();
    await told(/^west: down \d\d:\d\d:\d\d–\d\d:\d\d:\d\d$/);
    await told(/^east: up since \d\d:\d\d:\d\d at least$/);
    expect(await pools.locator('path.was-down[d*="H"]').count()).toBe(1);
    admin.setPool('local_pool', ['ejected']);
    await told(/^east: down since \d\d:\d\d:\d\d$/);
    await page.getByLabel('Over the last').selectOption('hour');
    await page.getByText('1 hour ago').waitFor();
    await told(/^west: down \d\d:\d\d:\d\d–\d\d:\d\d:\d\d$/);
  });

  test('shows a pool that hold_up holds back, and counts down', async () => {
    const { admin, url } = await startWith(() => {}, { health: { ...QUICK_HEALTH, hold_up: '1m' } });
    const page = await open({}, url);
    await seen(page, 'west', '● up');
    admin.setPool('remote_pool', ['ejected']);
    await seen(page, 'west', /^▲ down$/);
    admin.setPool('remote_pool', ['up']);
    await seen(page, 'west', /^■ held back: up in \d+ s$/);
    const left = async () => Number(/\d+/.exec((await page.locator('.countdown').textContent()) ?? '')?.[0]);
    const first = await left();
    await waitUntil(async () => (await left()) < first, { what: 'less to be left' });
    await page
      .getByRole('listitem')
      .filter({ hasText: /^west: held since .*, down / })
      .waitFor();
  });

  test('shows a site that is held, until when and why', async () => {
    const { url } = await startWith(() => {});
    const page = await open({}, url);
    await seen(page, 'west', '● up');
    await fetch(`${url}hold?site=west&for=2h&reason=${encodeURIComponent('its uplink flaps')}`, { method: 'POST' });
    await seen(page, 'west', /^■ held$/);
    await seen(page, 'west', /^held since [\d:]+, until [-\d: ]+: its uplink flaps\. This site takes it for down\.$/);
    await seen(page, 'west', 'pool remote_pool: 1 of 1 servers up');
    await page
      .locator('#verdict')
      .filter({ hasText: '▲ East serves its clients; west is held: its uplink flaps.' })
      .waitFor();
    expect(await accessibilityFaults(page)).toEqual([]);
    await fetch(`${url}release?site=west`, { method: 'POST' });
    await seen(page, 'west', '● up');
    await page
      .getByRole('listitem')
      .filter({ hasText: /^west: held \d\d:\d\d:\d\d–\d\d:\d\d:\d\d$/ })
      .waitFor();
  });

  test.each([
    { width: 1280, height: 720 },
    { width: 390, height: 844 },
  ])('answers the first questions without scrolling, on a screen of $width×$height', async (viewport) => {
    const { url } = await startWith((admin) => admin.setPool('local_pool', ['failed health check', 'ejected']), {
      ops_buttons: true,
    });
    const page = await open({ viewport }, url);
    await page.locator('#verdict').filter({ hasText: "East's pool is down: west serves its clients." }).waitFor();
    const changes = page.getByRole('region', { name: 'Last changes' }).getByRole('listitem');
    const asked = {
      verdict: page.locator('#verdict'),
      'east is down': card(page, 'east (this site)').getByText(/^▲ down$/),
      'why one server is': card(page, 'east (this site)').getByText('▲ down: failed active health check').first(),
      'why the other is': card(page, 'east (this site)').getByText('▲ down: failed outlier check').first(),
      'west is up': card(page, 'west')
        .getByText(/^● up$/)
        .first(),
      'the last change': changes.first(),
    };
    for (const [what, locator] of Object.entries(asked)) {
      const { y = 0, height = Number.POSITIVE_INFINITY } = (await locator.boundingBox()) ?? {};
      expect([what, y >= 0, y + height <= viewport.height]).toEqual([what, true, true]);
    }
  });

  describe('with buttons', () => {
    const WITH_BUTTONS = { ops_buttons: true };

    test('drains and undrains after a question, with the keyboard alone', async () => {
      const { url } = await startWith(() => {}, WITH_BUTTONS);
      const page = await open({}, url);
      const button = page.getByRole('button', { name: 'Drain east…' });
      await button.focus();
      await page.keyboard.press('Enter');
      const dialog = page.getByRole('dialog', { name: 'Drain east?' });
      await dialog.getByText('Its status URI answers 503, so new clients go to other sites.').waitFor();
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'hidden' });
      expect(await page.evaluate('document.activeElement.textContent')).toBe('Drain east…');
      await page.keyboard.press('Enter');
      await page.keyboard.type('kernel update');
      await dialog.getByRole('combobox', { name: 'For', exact: true }).selectOption('30 minutes');
      await dialog.getByRole('button', { name: 'Drain' }).press('Enter');
      await page.getByText(/^▼ Draining since .*\(kernel update\): no new clients/).waitFor();
      await page
        .locator('#verdict')
        .filter({
          hasText: /^▲ Draining: new clients go elsewhere, \d+ requests of east's sessions in the last minute\.$/,
        })
        .waitFor();
      expect(await page.evaluate('document.activeElement.textContent')).toBe('Undrain east…');
      await page.keyboard.press('Enter');
      await page.getByRole('dialog', { name: 'Undrain east?' }).waitFor();
      await page.keyboard.press('Enter');
      await page.getByText('not draining').waitFor();
    });

    test('says why a drain is refused, and drains all the same only when that is asked for', async () => {
      const { url } = await startWith((admin) => admin.setPool('remote_pool', ['ejected']), WITH_BUTTONS);
      const page = await open({ colorScheme: 'dark', reducedMotion: 'reduce' }, url);
      await seen(page, 'west', /^▲ down$/);
      await page.getByRole('button', { name: 'Drain east…' }).click();
      const dialog = page.getByRole('dialog');
      const drain = dialog.getByRole('button', { name: 'Drain', exact: true });
      await drain.click();
      const refusal = 'Refused: no other site is up, so its clients would have nowhere to go.';
      await dialog.getByRole('alert').filter({ hasText: refusal }).waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      expect(await page.getByText('not draining').isVisible()).toBe(true);
      expect([await drain.isDisabled(), await page.evaluate('document.activeElement.textContent')]).toEqual([
        true,
        'Cancel',
      ]);
      // Another drain than the one that was refused has to be asked for again.
      await dialog.getByRole('checkbox', { name: 'Move its sessions to other sites now' }).check();
      await dialog.getByRole('alert').waitFor({ state: 'hidden' });
      await drain.click();
      await dialog.getByRole('button', { name: 'Drain all the same' }).click();
      await dialog.waitFor({ state: 'hidden' });
      await page.getByText(/^▼ Draining since .* sessions of this site move to other sites\.$/).waitFor();
    });

    test('has them over TLS with client certificates, without a key for it', async () => {
      const ca = await TestCa.create(await temporaryDirectory());
      const [server, operator] = await Promise.all([ca.issue('server'), ca.issue('operator')]);
      const tls = { cert_file: server.certFile, key_file: server.keyFile, client_ca_file: ca.certFile };
      const started = await startWith(() => {}, { ops_listen_tls: tls });
      const url = started.url.replace('http:', 'https:');
      const { certFile: certPath, keyFile: keyPath } = operator;
      const clientCertificates = [{ origin: new URL(url).origin, certPath, keyPath }];
      const page = await open({ clientCertificates, ignoreHTTPSErrors: true }, url);
      await page.getByRole('button', { name: 'Drain east…' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).click();
      await page.getByText('▼ draining', { exact: true }).waitFor();
    });

    test('has none where the config does not say so, and none to end what the config file says', async () => {
      const [plain, byConfig] = [
        await startWith(() => {}),
        await startWith(() => {}, { ...WITH_BUTTONS, drain: true }),
      ];
      for (const { url } of [plain, byConfig]) {
        const page = await open({}, url);
        await page.getByText(/^(▼|not) draining$/).waitFor();
        expect(await page.getByRole('button', { name: /rain/ }).count()).toBe(0);
      }
    });

    test('of several applications each has its own', async () => {
      const { url } = await startWith((admin) => setPoolsOfMany(admin, 2), { ...manyApplications(2), ...WITH_BUTTONS });
      const page = await open({}, `${url}#application=app-2`);
      await page.getByRole('button', { name: 'Drain app-2…' }).click();
      await page.getByRole('dialog', { name: 'Drain app-2?' }).getByRole('button', { name: 'Drain' }).click();
      await page.getByText('1 of 2 applications is not well.').waitFor();
      await page.getByText('▼ draining: 1').waitFor();
    });
  });

  test('shows a drain with its end, and its end when it comes', async () => {
    const page = await open();
    const drainFor = (time: string) => fetch(`${lab.east.opsUrl}/drain?for=${time}`, { method: 'POST' });
    await drainFor('100s');
    await page.getByText(/▼ Draining since [-\d: ]+, until [-\d: ]+ \((1 min )?\d+ s left\)/).waitFor();
    await page.getByText('▼ draining', { exact: true }).waitFor();
    await drainFor('1s');
    await page.getByText('not draining').waitFor();
    expect(await page.locator('#drain').isVisible()).toBe(false);
    await page.getByRole('listitem').filter({ hasText: 'no longer draining: its time is over' }).first().waitFor();
  });

  test('says when the sidecar is gone, and goes on by itself when it is back', async () => {
    const page = await open();
    await lab.east.sidecar().stop('SIGKILL');
    await page.getByRole('alert').filter({ hasText: 'No connection to the sidecar since' }).waitFor();
    expect([await page.title(), await page.locator('#icon').getAttribute('href')]).toEqual([
      '? Site east',
      'icon-warn.svg',
    ]);
    expect(await accessibilityFaults(page)).toEqual([]);
    await lab.east.startSidecar();
    await page.getByRole('alert').waitFor({ state: 'hidden' });
    await page.getByRole('log').filter({ hasText: 'Connected to the sidecar again.' }).waitFor();
    await seen(page, 'east (this site)', 'pool local_pool: 2 of 2 servers up');
  });

  test('says when the sidecar hangs, and goes on by itself when it does not', async () => {
    const page = await open();
    lab.east.sidecar().signal('SIGSTOP');
    await page.getByRole('alert').filter({ hasText: 'No connection to the sidecar since' }).waitFor();
    lab.east.sidecar().signal('SIGCONT');
    await page.getByRole('alert').waitFor({ state: 'hidden' });
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
    await fetch(`${lab.east.opsUrl}/drain?for=1h`, { method: 'POST' });
    try {
      await lab.west.stopPool();
      await seen(page, 'west', '▲ down');
      await page.getByText('▼ draining', { exact: true }).waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
    } finally {
      await fetch(`${lab.east.opsUrl}/undrain`, { method: 'POST' });
    }
  });

  test('has landmarks, and works with the keyboard alone', async () => {
    const page = await open();
    for (const role of ['banner', 'main', 'contentinfo', 'navigation'] as const) {
      expect([role, await page.getByRole(role).count()]).toEqual([role, 1]);
    }
    for (const name of ['Sites and their pools', 'Decisions a second', 'Last changes', 'Sessions']) {
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
    const named = 'document.activeElement.id || document.activeElement.textContent';
    const reached: unknown[] = [];
    while (reached.at(-1) !== 'State as JSON' && reached.length < 10) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(named));
    }
    // Where there are more changes than are shown at first.
    expect(reached.filter((name) => name !== 'more-changes')).toEqual([
      'moment',
      'range',
      'with-status',
      'Metrics',
      'State as JSON',
    ]);
  });

  test('shows what Envoy says as text, whatever it is', async () => {
    const evil = '/<img src=x onerror="document.title=1">';
    const { url } = await startWith((admin) => admin.setPool('remote_pool', [{ state: 'ejected', address: evil }]));
    const page = await open({}, url);
    await card(page, 'west').getByRole('rowheader', { name: evil, exact: true }).waitFor();
    await page.getByRole('listitem').filter({ hasText: evil }).first().waitFor();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.title()).toMatch(/^(⚠ )?Site east$/);
  });

  describe('of a site with 200 applications', () => {
    const COUNT = 200;

    /** In which nobody serves app-9, and the pool of this site is down for app-7. */
    async function startMany(): Promise<Started> {
      return await startWith((admin) => {
        setPoolsOfMany(admin, COUNT);
        admin.setPool('app-7_local', ['failed health check', 'ejected']);
        for (const cluster of ['app-9_local', 'app-9_west', 'app-9_north']) admin.setPool(cluster, ['ejected']);
      }, manyApplications(COUNT));
    }

    function lines(page: Page): Locator {
      return page.getByRole('region', { name: 'Applications' }).locator('summary').filter({ visible: true });
    }

    function line(page: Page, name: string): Locator {
      return lines(page).filter({ has: page.getByText(name, { exact: true }) });
    }

    async function openMany(url: string, options: BrowserContextOptions = {}, hash = ''): Promise<Page> {
      const page = await open(options, `${url}${hash}`);
      await page.getByText('✖ 2 of 200 applications are not well.').waitFor();
      return page;
    }

    const UNWELL = [
      '✖ DOWN app-9 Nobody serves: all pools down, clients get 503.',
      "▲ warn app-7 East's pool is down: west serves its clients.",
    ];

    test('lists those that are not well, and folds the others', async () => {
      const { admin, url } = await startMany();
      const page = await openMany(url);
      expect(await lines(page).allTextContents()).toEqual(UNWELL);
      const unfold = page.getByRole('button', { name: '198 are well', expanded: false });
      await unfold.focus();
      await page.keyboard.press('Enter');
      await page.getByRole('button', { name: '198 are well', expanded: true }).waitFor();
      const all = await lines(page).allTextContents();
      expect(all).toHaveLength(COUNT);
      expect(all.slice(2, 5)).toEqual(
        ['app-1', 'app-2', 'app-3'].map((name) => `● ok ${name} East serves its clients.`),
      );
      admin.setPool('app-5_north', ['ejected']);
      await page.getByRole('button', { name: '197 are well' }).waitFor();
      expect((await lines(page).allTextContents()).slice(0, 3)).toEqual([
        UNWELL[0],
        '▲ warn app-5 East serves its clients; north is down.',
        UNWELL[1],
      ]);
    });

    test('finds applications by name, host or site, and Escape ends the search', async () => {
      const { url } = await startMany();
      const page = await openMany(url);
      const search = page.getByRole('searchbox', { name: 'Search by name, host or site' });
      const found = page.getByRole('status').filter({ hasText: 'of 200 applications' });
      await search.fill('APP-19.example');
      await found.filter({ hasText: '1 of 200 applications' }).waitFor();
      expect(await lines(page).allTextContents()).toEqual(['● ok app-19 East serves its clients.']);
      await search.fill('north app-7');
      await found.filter({ hasText: '11 of 200 applications' }).waitFor();
      expect((await lines(page).allTextContents())[0]).toBe(UNWELL[1]);
      await search.press('Escape');
      await found.waitFor({ state: 'hidden' });
      expect([await search.inputValue(), await lines(page).count()]).toEqual(['', 2]);
    });

    test('opens one, with its hosts, pools, servers, drain, decisions and changes', async () => {
      const { url } = await startMany();
      const page = await openMany(url);
      await line(page, 'app-7').focus();
      await page.keyboard.press('Enter');
      const name = page.locator('summary').getByText('app-7', { exact: true });
      const inside = page.getByRole('listitem').filter({ has: name });
      await inside.getByText('Hosts: app-7.example.com').waitFor();
      await inside.getByText('pool app-7_local: 0 of 2 servers up').waitFor();
      expect(await inside.getByRole('article').count()).toBe(3);
      await inside.getByRole('rowheader', { name: '127.0.0.1:3002' }).first().waitFor();
      await inside.getByRole('row', { name: /^local .* 0 0$/ }).waitFor();
      await inside.getByRole('row', { name: /^known .* 0 0$/ }).waitFor();
      await inside
        .getByRole('listitem')
        .filter({ hasText: /^west: up since / })
        .waitFor();
      await inside.getByRole('listitem').filter({ hasText: 'app-7_local (east) is down' }).waitFor();
      expect(new URL(page.url()).hash).toBe('#application=app-7');
      await fetch(`${url}drain?application=app-7&for=1h`, { method: 'POST' });
      await inside.getByText(/▼ Draining since .* \(59 min \d+ s left\)/).waitFor();
      await page.getByText('▼ draining: 1').waitFor();
      expect(
        await page
          .getByRole('main')
          .getByText(/▼ Draining since/)
          .filter({ visible: true })
          .count(),
      ).toBe(1);
    });

    test('is opened at an application by its address, also one that is well', async () => {
      const { url } = await startMany();
      const page = await openMany(url, {}, '#application=app-42');
      await page.getByText('Hosts: app-42.example.com').waitFor();
      expect(await page.evaluate('document.activeElement.textContent')).toContain('app-42');
      expect(await lines(page).count()).toBe(3);
      await page.getByRole('region', { name: 'Last changes' }).getByRole('link', { name: 'app-7' }).first().click();
      await page.getByText('Hosts: app-7.example.com').waitFor();
    });

    test('leaves alone what does not change, and moves what does without its focus being lost', async () => {
      const { admin, url } = await startMany();
      const page = await openMany(url);
      await line(page, 'app-7').click();
      await page.getByText('pool app-7_local: 0 of 2 servers up').waitFor();
      await page.evaluate(`
        window.mutations = [];
        new MutationObserver((list) => window.mutations.push(...list.map(({ target }) => target.nodeName + target.textContent)))
          .observe(document.getElementById('applications'), { subtree: true, childList: true, characterData: true });
        new Promise((resolve) => {
          let ticks = 0;
          new EventSource('events').addEventListener('tick', () => {
            if (++ticks === 3) resolve();
          });
        });
      `);
      expect(await page.evaluate('window.mutations')).toEqual([]);
      admin.setPool('app-7_local', ['up', 'up']);
      await page.getByText('pool app-7_local: 2 of 2 servers up').waitFor();
      expect(await lines(page).allTextContents()).toEqual([UNWELL[0], '● ok app-7 East serves its clients.']);
      expect(await page.evaluate('document.activeElement.textContent')).toContain('app-7');
    });

    test.each(['light', 'dark'] as const)('has no fault that axe knows, %s, and fits a phone', async (colorScheme) => {
      const { url } = await startMany();
      const page = await openMany(url, { viewport: PHONE, isMobile: true, colorScheme, reducedMotion: 'reduce' });
      expect(await accessibilityFaults(page)).toEqual([]);
      await line(page, 'app-9').click();
      await page.getByText('Hosts: app-9.example.com').waitFor();
      await page.getByRole('button', { name: '198 are well' }).click();
      await line(page, 'app-200').click();
      await page.getByText('Hosts: app-200.example.com').waitFor();
      expect(await accessibilityFaults(page)).toEqual([]);
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(PHONE.width);
    });
  });
});
