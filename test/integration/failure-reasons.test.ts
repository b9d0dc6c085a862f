import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { repeatCheck } from '../../src/health/check-probe.ts';
import { HOST_NAME, TestCa } from '../support/certificates.ts';

/** Why a health check fails, asked of servers that really do so. */

let directory: string;
let ca: TestCa;
let otherCa: TestCa;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-probe-'));
  [ca, otherCa] = [await TestCa.create(directory), await TestCa.create(directory, 'other-ca')];
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function configOf(localCheck: string, remote = ''): Config {
  return parseConfig(
    `site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, health_check: ${localCheck} }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: [west.example.com:443] ${remote} }]
`,
    'site.yaml',
  );
}

const never = new AbortController().signal;
const textOf = async (config: Config, cluster: string, address: string) =>
  (await repeatCheck(config, cluster, address, never))?.text;

const HTTP = configOf('{ path: /healthz, host: shop.example.com, timeout: 200ms }');

describe('a local server', () => {
  test('that refuses connections', async () => {
    const server = createServer();
    const address = await listen(server);
    await new Promise((resolve) => server.close(resolve));
    expect(await textOf(HTTP, 'local_pool', address)).toBe('connection refused');
    expect(await textOf(configOf('{}'), 'local_pool', address)).toBe('connection refused');
  });

  test('that accepts connections and says nothing', async () => {
    const address = await listen(createServer(() => {}));
    expect(await textOf(HTTP, 'local_pool', address)).toBe('no answer within 200 ms');
    expect(await repeatCheck(configOf('{}'), 'local_pool', address, never)).toEqual({
      succeeds: true,
      text: 'it connects',
    });
  });

  test('that closes the connection, or speaks something else', async () => {
    const closing = await listen(createServer((socket) => socket.resetAndDestroy()));
    expect(await textOf(HTTP, 'local_pool', closing)).toBe('connection closed without an answer');
    const ssh = await listen(createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n')));
    expect(await textOf(HTTP, 'local_pool', ssh)).toMatch(/^its answer is not HTTP/);
  });

  test('that answers with another status, to the Host and path of the config', async () => {
    const asked: (string | undefined)[] = [];
    const server = createHttpServer((request, response) => {
      asked.push(request.url, request.headers.host);
      response.writeHead(404).end();
    });
    const address = await listen(server);
    expect(await textOf(HTTP, 'local_pool', address)).toBe('answered 404, expected 200-399');
    expect(asked).toEqual(['/healthz', 'shop.example.com']);
    const expects404 = configOf('{ path: /healthz, expect: "200,404" }');
    expect(await repeatCheck(expects404, 'local_pool', address, never)).toEqual({
      succeeds: true,
      text: 'answered 404',
    });
  });
});

describe('a local server that speaks HTTP/2', () => {
  const config = parseConfig(
    `site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, protocol: http2, health_check: { path: /healthz, timeout: 200ms } }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ }]
`,
    'site.yaml',
  );

  test('and answers with another status, or not at all', async () => {
    const server = createHttp2Server((request, response) => {
      if (request.headers[':path'] === '/healthz') response.writeHead(500).end();
    });
    expect(await textOf(config, 'local_pool', await listen(server))).toBe('answered 500, expected 200-399');
    const silent = await listen(createHttp2Server(() => {}));
    expect(await textOf(config, 'local_pool', silent)).toBe('no answer within 200 ms');
  });

  test('or does not', async () => {
    const http1 = await listen(createHttpServer((_, response) => response.end()));
    expect(await textOf(config, 'local_pool', http1)).toMatch(/^(its answer is not HTTP\/2|connection closed)/);
  });
});

describe('another site', () => {
  test('that says DOWN is asked with the hop header and by its own name', async () => {
    const asked: unknown[] = [];
    const server = createHttpServer((request, response) => {
      asked.push(request.url, request.headers.host, request.headers['x-site-hop']);
      response.writeHead(503).end('LOCAL POOL STATE: DOWN');
    });
    expect(await textOf(HTTP, 'remote_pool', await listen(server))).toBe('answered 503, expected 200');
    expect(asked).toEqual(['/local_pool_status', 'west.example.com', 'east']);
  });

  test.each(['right', 'expired', 'wrong CA', 'wrong name', 'no TLS', 'no client certificate'] as const)(
    'over TLS: %s',
    async (what) => {
      const issued = await ca.issue('probed', what === 'expired' ? { days: -1 } : {});
      const options = { ...(await ca.clientOf(issued)), requestCert: what === 'no client certificate' };
      const server =
        what === 'no TLS'
          ? createHttpServer((_, response) => response.end())
          : createHttpsServer(options, (_, response) => response.end());
      const trusted = what === 'wrong CA' ? otherCa : ca;
      const name = what === 'wrong name' ? 'elsewhere.test' : HOST_NAME;
      const config = configOf('{}', `, tls: { sni: ${name}, ca_file: "${trusted.certFile}" }`);
      const expected = {
        right: /^answered 200$/,
        expired: /^TLS: certificate has expired$/,
        'wrong CA': /^TLS: .*(issuer|signature|self-signed)/,
        'wrong name': /^TLS: Hostname\/IP does not match certificate's altnames/,
        'no TLS': /^TLS: /,
        'no client certificate': /^(TLS: |connection closed)/,
      };
      expect(await textOf(config, 'remote_pool', await listen(server))).toMatch(expected[what]);
    },
  );

  test('whose CA file is not readable here says so', async () => {
    const config = configOf('{}', ', tls: { sni: a.test, ca_file: /nowhere/ca.pem }');
    expect(await textOf(config, 'remote_pool', '127.0.0.1:1')).toMatch(/cannot read \/nowhere\/ca\.pem/);
  });
});
