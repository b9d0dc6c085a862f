import { expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { describeAdmin } from '../../src/envoy-admin/admin-client.ts';
import { TestCa } from '../support/certificates.ts';
import type { FakeAdmin } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';
import { runCli, startServe } from './cli-process.ts';
import { QUICK_HEALTH, type SiteFile, startAdmin, temporaryDirectory, writeSiteFile } from './site.ts';

interface Site {
  readonly admin: FakeAdmin;
  readonly path: string;
  readonly opsUrl: string;
}

const COOKIES: Readonly<Record<string, string>> = { east: 'KVAAVROI', west: 'DDVHSLLQ' };

/** Two sites' sidecars, each with an Envoy of its own, and what the other's ops listener is called. */
async function startSites(changes: SiteFile = {}, scheme = 'http'): Promise<{ east: Site; west: Site }> {
  const [portOfEast = 0, portOfWest = 0] = await freePorts(2);
  const ports: Readonly<Record<string, number>> = { east: portOfEast, west: portOfWest };
  const [east, west] = [await startSite('east', 'west'), await startSite('west', 'east')];
  return { east, west };

  async function startSite(site: string, other: string): Promise<Site> {
    const admin = await startAdmin();
    const [listen] = await freePorts(1);
    const path = await writeSiteFile({
      ...{ site, listen: `127.0.0.1:${listen}`, ops_listen: `127.0.0.1:${ports[site]}`, health: QUICK_HEALTH },
      local_pool: { cluster: 'local_pool', cookie: COOKIES[site] },
      remote_pools: [
        {
          site: other,
          cluster: 'remote_pool',
          cookie: COOKIES[other],
          ops_url: `${scheme}://127.0.0.1:${ports[other]}`,
        },
      ],
      envoy: { admin: describeAdmin(admin.address) },
      ...changes,
    });
    await startServe(path);
    return { admin, path, opsUrl: `${scheme}://127.0.0.1:${ports[site]}` };
  }
}

const all = async ({ path }: Site) => await runCli(['status', '--all', '--config', path]);

test('sites that agree are one table', async () => {
  const { east } = await startSites();
  expect(await all(east)).toEqual({
    code: 0,
    stdout: '           east  west\neast says  up    up\nwest says  up    up\n',
    stderr: '',
  });
});

test('where they disagree is said', async () => {
  const { east, west } = await startSites();
  east.admin.setPool('remote_pool', ['failed health check']);
  const seenDown = async () =>
    (await runCli(['status', '--json', '--config', east.path])).stdout.includes('"up": false');
  await waitUntil(seenDown, { what: 'west to be down to east' });
  expect(await all(west)).toEqual({
    code: 1,
    stdout: '           west  east\nwest says  up    up\neast says  down  up\n',
    stderr: 'default: west is up to west, and down to east\n',
  });
});

test('a site that is held is no disagreement', async () => {
  const { east } = await startSites();
  expect((await runCli(['hold', 'west', '--reason', 'rehearsal', '--config', east.path])).code).toBe(0);
  expect(await all(east)).toEqual({
    code: 0,
    stdout: '           east  west\neast says  up    held\nwest says  up    up\n',
    stderr: '',
  });
});

test('a site that does not answer is named, and one that nobody knows how to ask', async () => {
  const admin = await startAdmin();
  const [listen, ops, gone] = await freePorts(3);
  const path = await writeSiteFile({
    ...{ site: 'east', listen: `127.0.0.1:${listen}`, ops_listen: `127.0.0.1:${ops}`, health: QUICK_HEALTH },
    local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI' },
    remote_pools: [
      { site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ', ops_url: `http://127.0.0.1:${gone}` },
      { site: 'north', cluster: 'north_pool', cookie: 'NNPOLEXY' },
    ],
    envoy: { admin: describeAdmin(admin.address) },
  });
  await startServe(path);
  const { code, stdout, stderr } = await runCli(['status', '--all', '--config', path]);
  expect(code).toBe(1);
  expect(stdout).toMatch(
    /^ +east +west +north\neast says +up +up +\w+\nwest says +\? +\? +\?\nnorth says +\? +\? +\?\n$/,
  );
  expect(stderr).toMatch(
    /^west: does not answer at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED.*\nnorth: not asked: .* has no ops_url\n$/,
  );
});

test("over TLS the ops listener's own certificate is shown, and its client CA is trusted", async () => {
  const ca = await TestCa.create(await temporaryDirectory());
  const server = await ca.issue('ops');
  const tls = { cert_file: server.certFile, key_file: server.keyFile, client_ca_file: ca.certFile };
  const { east } = await startSites({ ops_listen_tls: tls }, 'https');
  expect(await all(east)).toMatchObject({ code: 0, stderr: '' });
});
