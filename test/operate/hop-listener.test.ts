import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type PeerCertificate } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { type ClientFiles, HOST_NAME, replaceFile, TestCa } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { HopCertificates } from '../support/hop-certificates.ts';
import { Load } from '../support/load.ts';
import { EAST_COOKIE, type EnvoyRelease, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** Two sites that forward to each other over TLS, each with a certificate, to a listener that takes nobody else. */
describe.each<[EnvoyRelease, hopListenOnly: boolean]>([
  ['1.36.4', false],
  ['1.40.0', true],
])('the listener for other sites, Envoy %s, hop_listen_only: %s', (envoyVersion, hopListenOnly) => {
  let directory: string;
  let certificates: HopCertificates;
  let ca: TestCa;
  let otherCa: TestCa;
  let lab: TwoSites;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'site-persistence-hop-listener-'));
    certificates = await HopCertificates.create(directory);
    ca = certificates.ca;
    otherCa = await TestCa.create(directory, 'other-ca');
    lab = await startTwoSites({
      envoyVersion,
      configure: (file, site) => {
        certificates.configure(file, site);
        file.envoy.hop_listen_only = hopListenOnly;
      },
    });
  });
  afterAll(async () => {
    await lab?.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Asks west's listener for sites. @returns its certificate and its answer @throws Error when there is none */
  async function askWest(client: Partial<ClientFiles>, headers = ''): Promise<PeerCertificate & { body: string }> {
    return await new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port: certificates.ports.west, servername: HOST_NAME };
      const request = `GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${headers}\r\n`;
      const socket = connect({ ...options, rejectUnauthorized: false, ...client }, () => socket.write(request));
      let body = '';
      let certificate: PeerCertificate | undefined;
      socket.on('data', (part: Buffer) => {
        certificate ??= socket.getPeerCertificate();
        body += part.toString();
      });
      socket.once('error', reject);
      socket.once('close', () => {
        if (certificate === undefined) reject(new Error('closed without an answer'));
        else resolve({ ...certificate, body });
      });
    });
  }

  test('a session is served by its site, which sees the client as that which forwards has seen it', async () => {
    const client = new Client();
    const direct = await client.ask(lab.west.url);
    // From an address that no edge calls from.
    const headers = { 'x-forwarded-for': '198.51.100.1', 'x-forwarded-proto': 'https' };
    const from = { headers, localAddress: '127.0.0.2' };
    const forwarded = await client.ask(`${lab.east.url}/seen-by-west`, from);
    expect(forwarded).toMatchObject({ site: 'west', hop: 'east', server: direct.server });
    const [first, second, ...edges] = String(forwarded.headers['x-forwarded-for']).split(/, ?/);
    expect([first, second, edges.length]).toEqual(['198.51.100.1', '127.0.0.2', 1]);
    // How the client came, not how the site that forwarded, nor what the client says.
    expect(forwarded.headers['x-forwarded-proto']).toBe('http');
    const logged = () => lab.west.envoy?.lines.find((line) => line.includes('"path":"/seen-by-west"'));
    await waitUntil(() => logged() !== undefined, { what: "west's log to have it" });
    expect(JSON.parse(logged() ?? '').client.split(':')[0]).toBe('127.0.0.2');
    expect(await lab.east.stat('cluster.remote_pool.ssl.handshake')).toBeGreaterThan(0);
    client.close();
  });

  test('what comes there goes no further, also where its sender does not say that it was forwarded', async () => {
    const site = await ca.clientOf(certificates.filesOf('east'));
    for (const cookies of [`${EAST_COOKIE}=x`, `${EAST_COOKIE}=x; ${WEST_COOKIE}=x`]) {
      const { body } = await askWest(site, `cookie: ${cookies}\r\n`);
      expect(body).toContain('"site":"west"');
      expect(body).toContain('"hop":"unnamed"');
    }
    expect((await askWest(site, 'x-site-hop: east\r\n')).body).toContain('"hop":"east"');
  });

  test("a client's own hop header counts only where there is no other listener for it", async () => {
    const client = new Client();
    const headers = { 'x-site-hop': 'forged', cookie: `${WEST_COOKIE}=x` };
    const answer = await client.ask(lab.east.url, { headers });
    client.close();
    expect([answer.site, answer.hop]).toEqual(hopListenOnly ? ['west', 'east'] : ['east', 'forged']);
  });

  test.each([
    ['without a certificate', async () => ({})],
    ['of another CA', async () => await otherCa.clientOf(await otherCa.issue('stranger'))],
    ['that has expired', async () => await ca.clientOf(await ca.issue('late', { days: -1 }))],
  ])('takes no client %s', async (_, filesOf) => {
    await expect(askWest(await filesOf())).rejects.toThrow();
    await expect(askWest(await ca.clientOf(certificates.filesOf('east')))).resolves.toBeDefined();
  });

  test('a certificate that is half written is not taken, the old one stays, and a new one takes its place', async () => {
    const client = await ca.clientOf(certificates.filesOf('east'));
    const { fingerprint256 } = await askWest(client);
    const rejected = 'listener_hop_edge_certificate.key_rotation_failed';
    const { certFile } = certificates.filesOf('west');
    await replaceFile(certFile, (await readFile(certFile)).subarray(0, 300));
    await waitUntil(async () => (await lab.west.stat(`sds.${rejected}`)) > 0, { what: 'Envoy to see it' });
    expect((await askWest(client)).fingerprint256).toBe(fingerprint256);
    await certificates.renew('west');
    await waitUntil(async () => (await askWest(client)).fingerprint256 !== fingerprint256, { what: 'the new one' });
  });

  test('every certificate and the CA are replaced under load: no restart, and no request lost', async () => {
    const envoys = lab.sites.map((site) => site.envoy?.pid);
    const oldClient = await ca.clientOf(await ca.issue('old-client'));
    const newClient = await otherCa.clientOf(await otherCa.issue('new-client'));
    const isTaken = async (client: ClientFiles) =>
      await askWest(client).then(
        () => true,
        () => false,
      );
    const load = await Load.start({ homes: [lab.west.url], edges: [lab.east.url], pauseMs: 4 });
    try {
      await replaceFile(
        certificates.caFile,
        Buffer.concat([await readFile(ca.certFile), await readFile(otherCa.certFile)]),
      );
      await waitUntil(() => isTaken(newClient), { what: 'the new CA to be taken' });
      for (const { name } of lab.sites) await certificates.renew(name, otherCa, `new-${name}`);
      await waitUntil(async () => (await askWest(newClient)).subject.CN === 'new-west', {
        what: 'the new certificate',
      });
      await replaceFile(certificates.caFile, await readFile(otherCa.certFile));
      await waitUntil(async () => !(await isTaken(oldClient)), { what: 'the old CA not to be taken' });
      const { requests } = load;
      await waitUntil(() => load.requests > requests + 200, { what: '200 more requests' });
    } finally {
      const report = await load.stop();
      expect(report, report.losses.join('\n')).toMatchObject({ lost: 0, moved: 0 });
    }
    expect(lab.sites.map((site) => site.envoy?.pid)).toEqual(envoys);

    // All connections anew: the one site has it all from its start, the other from what came in the meantime.
    await lab.west.envoy?.stop('SIGKILL');
    await lab.west.startEnvoy();
    for (const [home, other] of [
      [lab.west, lab.east],
      [lab.east, lab.west],
    ] as const) {
      const isForwarded = async () => {
        const client = new Client();
        await client.ask(home.url);
        const { site, hop } = await client.ask(other.url).finally(() => client.close());
        return site === home.name && hop === other.name;
      };
      await waitUntil(() => isForwarded().catch(() => false), { what: `${other.name} to forward to ${home.name}` });
    }
  });
});
