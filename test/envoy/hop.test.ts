import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { waitUntil } from '../../lab/wait-until.ts';
import { HOST_NAME, type IssuedFiles, TestCa } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { DECIDERS, decideBy } from '../support/deciders.ts';
import { freePorts } from '../support/free-ports.ts';
import { list, type Tree, tree } from '../support/json-tree.ts';
import { type ConfigFile, EAST_COOKIE, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/**
 * The way from site to site: over TLS, and what of the client's address arrives. East knows eight sites, which are all
 * west by another listener or with other settings; each has its cookie, so that a request can be sent each way.
 */

const NAMES = [
  'right',
  'wrong_name',
  'wrong_ca',
  'expired',
  'plain',
  'client_cert',
  'no_client_cert',
  'no_tls',
] as const;
type Name = (typeof NAMES)[number];

let directory: string;
let lab: TwoSites;
let eavesdropper: Server;
/** What came to the server that speaks no TLS. */
const heard: Buffer[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-hop-'));
  const [ca, otherCa] = await Promise.all([TestCa.create(directory), TestCa.create(directory, 'other-ca')]);
  const server = await ca.issue('server');
  const expired = await ca.issue('expired', { days: -1 });
  const client = await ca.issue('client');
  const [byName = 0, byAddress = 0, withExpired = 0, withClients = 0, noTls = 0] = await freePorts(5);
  eavesdropper = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', (part) => {
      heard.push(part);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve) => eavesdropper.listen(noTls, '127.0.0.1', resolve));

  const tls = { sni: HOST_NAME, ca_file: ca.certFile };
  const ways: Record<Name, readonly [port: number, tls: Tree | null]> = {
    right: [byName, tls],
    wrong_name: [byAddress, { ...tls, sni: 'elsewhere.test' }],
    wrong_ca: [byName, { ...tls, ca_file: otherCa.certFile }],
    expired: [withExpired, tls],
    plain: [byName, null],
    client_cert: [withClients, { ...tls, cert_file: client.certFile, key_file: client.keyFile }],
    no_client_cert: [withClients, tls],
    no_tls: [noTls, tls],
  };
  const configure = (file: ConfigFile, site: 'east' | 'west') => {
    if (site === 'west') return;
    file.remote_pools = NAMES.map((name) => {
      const [port, settings] = ways[name];
      // The lab waits for the pool of this name.
      const cluster = name === 'right' ? 'remote_pool' : name;
      const cookie = name === 'right' ? WEST_COOKIE : `COOKIE_${name}`;
      return {
        site: name,
        cluster,
        cookie,
        servers: [`127.0.0.1:${port}`],
        ...(settings === null ? {} : { tls: settings }),
      };
    });
  };
  const patchBootstrap = (text: string, site: 'east' | 'west') => {
    if (site === 'east') return text;
    const bootstrap: unknown = parse(text);
    const listeners = list(bootstrap, 'static_resources', 'listeners');
    const edge = tree(listeners, 'name=edge');
    listeners.push(
      tlsListener(edge, { port: byName, files: server, onlyFor: HOST_NAME }),
      tlsListener(edge, { port: byAddress, files: server }),
      tlsListener(edge, { port: withExpired, files: expired }),
      tlsListener(edge, { port: withClients, files: server, clientCa: ca.certFile }),
    );
    return stringify(bootstrap, { aliasDuplicateObjects: false });
  };
  lab = await startTwoSites({ configure, patchBootstrap });
});
afterAll(async () => {
  await lab?.close();
  eavesdropper?.close();
  await rm(directory, { recursive: true, force: true });
});

interface TlsListenerOptions {
  readonly port: number;
  readonly files: IssuedFiles;
  /** Takes only connections that ask for this name. */
  readonly onlyFor?: string;
  /** Takes only clients with a certificate of this CA. */
  readonly clientCa?: string;
}

/** The edge once more, behind TLS: as an operator adds it to what is rendered. */
function tlsListener(edge: Tree, { port, files, onlyFor, clientCa }: TlsListenerOptions): Tree {
  const listener = structuredClone(edge);
  listener.name = `edge_${port}`;
  tree(listener, 'address', 'socket_address').port_value = port;
  Object.assign(tree(listener, 'filter_chains', 0), {
    ...(onlyFor === undefined ? {} : { filter_chain_match: { server_names: [onlyFor] } }),
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
        require_client_certificate: clientCa !== undefined,
        common_tls_context: {
          tls_certificates: [
            { certificate_chain: { filename: files.certFile }, private_key: { filename: files.keyFile } },
          ],
          ...(clientCa === undefined ? {} : { validation_context: { trusted_ca: { filename: clientCa } } }),
        },
      },
    },
  });
  const inspector = 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector';
  listener.listener_filters = [{ name: 'envoy.filters.listener.tls_inspector', typed_config: { '@type': inspector } }];
  return listener;
}

/** What the application says that it was sent by a client at this address, which is not the sites' own. */
async function askFrom(address: string, url: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const body = await new Promise<string>((resolve, reject) => {
    const call = request(url, { localAddress: address, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve(text));
    });
    call.on('error', reject);
    call.end();
  });
  return answerShape.parse(JSON.parse(body));
}

const answerShape = z.object({
  site: z.string(),
  hop: z.string().nullable(),
  headers: z.looseObject({ 'x-forwarded-for': z.string(), 'x-forwarded-proto': z.string() }),
});
type Answer = z.infer<typeof answerShape>;

const cookieOf = (name: Name) => `${name === 'right' ? WEST_COOKIE : `COOKIE_${name}`}=x`;

describe.each(DECIDERS)('over TLS, decided by %s', (decider) => {
  decideBy(decider, () => lab);

  test.each(['right', 'client_cert'] as const)('%s: the session is served by its site', async (name) => {
    const pool = name === 'right' ? 'remote_pool' : name;
    await waitUntil(async () => (await lab.east.stat(`cluster.${pool}.membership_healthy`)) === 1, { what: name });
    const client = new Client();
    const answer = await client.ask(lab.east.url, { headers: { cookie: cookieOf(name) } });
    expect(answer).toMatchObject({ site: 'west', hop: 'east' });
    expect(await lab.east.stat(`cluster.${pool}.ssl.handshake`)).toBeGreaterThan(0);
    client.close();
  });

  test.each([
    ['wrong_name', 'ssl.fail_verify_san'],
    ['wrong_ca', 'ssl.fail_verify_error'],
    ['expired', 'ssl.fail_verify_error'],
    ['plain', 'health_check.failure'],
    ['no_client_cert', 'health_check.failure'],
    ['no_tls', 'health_check.failure'],
  ] as const)('%s: the other site is down, and nothing is sent there', async (name, evidence) => {
    await waitUntil(async () => (await lab.east.stat(`cluster.${name}.${evidence}`)) >= 2, { what: evidence });
    expect(await lab.east.stat(`cluster.${name}.membership_healthy`)).toBe(0);
    const client = new Client();
    for (let count = 0; count < 5; count++) {
      client.cookies.clear();
      const answer = await client.ask(lab.east.url, { headers: { cookie: cookieOf(name) } });
      // Its session is adopted.
      expect(answer).toMatchObject({ site: 'east', hop: null });
      expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
    }
    client.close();
  });

  test('who speaks no TLS hears nothing but the beginning of a handshake', () => {
    expect(heard.length).toBeGreaterThan(0);
    const isHandshake = (bytes: Buffer) => bytes[0] === 0x16 && bytes[1] === 0x03;
    expect(heard.filter((bytes) => !isHandshake(bytes))).toEqual([]);
    expect(Buffer.concat(heard).toString('latin1')).not.toMatch(/x-site-hop|local_pool_status|COOKIE|HTTP/i);
  });
});

describe('X-Forwarded-For', () => {
  const CLIENT = '127.0.0.2';

  test('the application in the owning site sees the client first, then the site that forwarded', async () => {
    const direct = await askFrom(CLIENT, lab.west.url, {});
    expect(direct).toMatchObject({ site: 'west', headers: { 'x-forwarded-for': CLIENT } });
    const forwarded = await askFrom(CLIENT, lab.east.url, { cookie: cookieOf('right') });
    expect(forwarded).toMatchObject({ site: 'west', hop: 'east' });
    const [first, second = '', ...more] = forwarded.headers['x-forwarded-for'].split(',');
    expect([first, more]).toEqual([CLIENT, []]);
    // An address of this machine, which east's edge calls from.
    expect(second).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect(second).not.toBe(CLIENT);
    // How the last of the ways was, by which the sites should be as the clients are.
    expect(direct.headers['x-forwarded-proto']).toBe('http');
    expect(forwarded.headers['x-forwarded-proto']).toBe('https');
  });

  test('what a client puts there itself stands before its address, one place further from the end after a hop', async () => {
    const forged = { 'x-forwarded-for': '198.51.100.1, 198.51.100.2' };
    const direct = await askFrom(CLIENT, lab.west.url, forged);
    expect(direct.headers['x-forwarded-for']).toBe(`198.51.100.1, 198.51.100.2,${CLIENT}`);
    const forwarded = await askFrom(CLIENT, lab.east.url, { ...forged, cookie: cookieOf('right') });
    const addresses = forwarded.headers['x-forwarded-for'].split(',').map((address) => address.trim());
    expect(addresses.slice(0, -1)).toEqual(['198.51.100.1', '198.51.100.2', CLIENT]);
  });

  test('a session that this site takes over shows the client as any other does', async () => {
    const adopted = await askFrom(CLIENT, lab.east.url, { cookie: cookieOf('wrong_ca') });
    expect(adopted).toMatchObject({ site: 'east', hop: null });
    expect(adopted.headers['x-forwarded-for']).toBe(CLIENT);
    await lab.east.sidecar().stop('SIGKILL');
    try {
      // By way of the stand-in listener.
      const alone = await askFrom(CLIENT, lab.east.url, { cookie: cookieOf('wrong_ca') });
      expect(alone).toMatchObject({ site: 'east', hop: null });
      expect(alone.headers['x-forwarded-for']).toBe(CLIENT);
    } finally {
      await lab.east.startSidecar();
    }
  });
});
