import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { HOST_NAME, type IssuedFiles, replaceCertificate, TestCa } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let directory: string;
let ca: TestCa;
let lab: TwoSites;
/** What each Envoy shows to its sidecar. */
let envoy: IssuedFiles;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-tls-'));
  ca = await TestCa.create(directory);
  const sidecar = await ca.issue('sidecar');
  envoy = await ca.issue('envoy');
  lab = await startTwoSites({
    fastPath: false,
    configure: (file) => {
      file.listen_tls = { cert_file: sidecar.certFile, key_file: sidecar.keyFile, client_ca_file: ca.certFile };
      file.envoy.sidecar_tls = {
        ...{ sni: HOST_NAME, ca_file: ca.certFile },
        ...{ cert_file: envoy.certFile, key_file: envoy.keyFile },
      };
      file.envoy.secrets_dir = join(directory, 'secrets');
    },
  });
});
afterAll(async () => {
  await lab?.close();
  await rm(directory, { recursive: true, force: true });
});

const EXT_PROC = 'http.edge.ext_proc';

async function expectDecisions(): Promise<void> {
  const client = new Client();
  const before = await lab.east.stat(`${EXT_PROC}.stream_msgs_received`);
  const session = await client.ask(lab.west.url);
  expect(session.site).toBe('west');
  expect(await client.ask(lab.east.url)).toMatchObject({ site: 'west', hop: 'east' });
  client.close();
  expect(await lab.east.stat(`${EXT_PROC}.stream_msgs_received`)).toBeGreaterThan(before);
}

test('Envoy asks a sidecar with TLS, and checks its health', async () => {
  await expectDecisions();
  expect(await lab.east.stat(`${EXT_PROC}.failure_mode_allowed`)).toBe(0);
  expect(await lab.east.stat('cluster.site_persistence.ssl.handshake')).toBeGreaterThan(0);
  expect(await lab.east.stat('cluster.site_persistence.membership_healthy')).toBe(1);
});

test("an Envoy that starts later gets the sidecar's new certificate", async () => {
  await ca.issue('sidecar');
  await waitUntil(() => lab.east.sidecar().lines.some((line) => line.includes('listen_tls: new certificates')), {
    what: 'the new certificate to be in force',
  });
  await lab.east.envoy?.stop('SIGKILL');
  await lab.east.startEnvoy();
  await lab.ready();
  await expectDecisions();
});

test('an Envoy whose certificate is of another CA decides by itself, the sidecar says why, and a right one fixes it', async () => {
  const other = await TestCa.create(directory, 'other-ca');
  await replaceCertificate(await other.issue('stranger'), envoy);
  // A connection that is there stays.
  await lab.east.sidecar().stop();
  await lab.east.startSidecar();
  const refusal = /"listen: a connection was rejected: its certificate is not taken/;
  await waitUntil(() => lab.east.sidecar().lines.some((line) => refusal.test(line)), { what: 'the refusal' });
  const healthy = async () => await lab.east.stat('cluster.site_persistence.membership_healthy');
  await waitUntil(async () => (await healthy()) === 0, { what: "Envoy's health check to fail" });
  const decided = await lab.east.stat(`${EXT_PROC}.stream_msgs_received`);
  const client = new Client();
  expect((await client.ask(lab.west.url)).site).toBe('west');
  expect(await client.ask(lab.east.url)).toMatchObject({ site: 'west', hop: 'east' });
  client.close();
  expect(await lab.east.stat(`${EXT_PROC}.stream_msgs_received`)).toBe(decided);

  await replaceCertificate(await ca.issue('renewed'), envoy);
  await waitUntil(async () => (await healthy()) === 1, { what: "Envoy's health check to succeed" });
  await expectDecisions();
});
