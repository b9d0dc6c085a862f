import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
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

/** Answers 400 when the first flag is set, and then sets the second, whatever the test's thread does meanwhile. */
const ANSWERS_400 = `
const { parentPort, workerData: flags } = require('node:worker_threads');
const server = require('node:http').createServer((_, response) => {
  parentPort.postMessage('asked');
  Atomics.wait(flags, 0, 0);
  response.writeHead(400).end(() => {
    Atomics.store(flags, 1, 1);
    Atomics.notify(flags, 1);
  });
});
server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;

describe('a server that answers has answered, though this process had no time', () => {
  async function startThread() {
    const flags = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(ANSWERS_400, { eval: true, workerData: flags });
    onTestFinished(async () => void (await worker.terminate()));
    const [port] = await once(worker, 'message');
    return { worker, flags, address: `127.0.0.1:${port}` };
  }
  const answer = (flags: Int32Array) => {
    Atomics.store(flags, 0, 1);
    Atomics.notify(flags, 0);
  };

  test('to connect', async () => {
    const { flags, address } = await startThread();
    answer(flags);
    const asked = textOf(HTTP, 'local_pool', address);
    await new Promise((resolve) => setImmediate(resolve));
    const endMs = performance.now() + 500;
    while (performance.now() < endMs);
    expect(await asked).toBe('answered 400, expected 200-399');
  });

  test('to read when time is up', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    onTestFinished(() => void vi.useRealTimers());
    const { worker, flags, address } = await startThread();
    const isAsked = once(worker, 'message');
    const asked = textOf(HTTP, 'local_pool', address);
    await isAsked;
    // Where the loop is when timers fire: before it reads.
    setTimeout(() => {
      answer(flags);
      Atomics.wait(flags, 1, 0);
      vi.advanceTimersByTime(200);
    });
    expect(await asked).toBe('answered 400, expected 200-399');
  });
});

test('many servers can be asked at once, without a warning of listeners', async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => void warnings.push(warning);
  process.on('warning', onWarning);
  onTestFinished(() => void process.off('warning', onWarning));
  const { signal } = new AbortController();
  const address = await listen(createServer(() => {}));
  await Promise.all(Array.from({ length: 50 }, () => repeatCheck(HTTP, 'local_pool', address, signal)));
  expect(warnings).toEqual([]);
});

describe('a local server that is asked for a connection over TLS', () => {
  const configWith = (tls: string, check = '{ timeout: 200ms }', protocol = 'http1') =>
    parseConfig(
      `site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, protocol: ${protocol}, tls: ${tls}, health_check: ${check} }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ }]
`,
      'site.yaml',
    );
  const trusting = (file: string, name = HOST_NAME) => `{ sni: ${name}, ca_file: "${file}" }`;
  const startTls = async (options = {}) =>
    await listen(createTlsServer({ ...(await ca.clientOf(await ca.issue('local'))), ...options }));

  test('has a handshake', async () => {
    const address = await startTls();
    expect(await repeatCheck(configWith(trusting(ca.certFile)), 'local_pool', address, never)).toEqual({
      succeeds: true,
      text: 'it connects over TLS',
    });
    expect(await textOf(configWith(trusting(otherCa.certFile)), 'local_pool', address)).toMatch(
      /^TLS: .*(issuer|signature|self-signed)/,
    );
    const otherName = configWith(trusting(ca.certFile, 'elsewhere.test'));
    expect(await textOf(otherName, 'local_pool', address)).toMatch(/^TLS: Hostname\/IP does not match/);
  });

  test('and is judged by the CAs that are in the file now', async () => {
    const file = join(directory, 'replaced-ca.pem');
    const config = configWith(trusting(file));
    const address = await startTls();
    await copyFile(otherCa.certFile, file);
    expect(await textOf(config, 'local_pool', address)).toMatch(/^TLS: /);
    await copyFile(ca.certFile, file);
    expect(await textOf(config, 'local_pool', address)).toBe('it connects over TLS');
  });

  test('or does not', async () => {
    const config = configWith(trusting(ca.certFile));
    const silent = await listen(createServer(() => {}));
    expect(await textOf(config, 'local_pool', silent)).toBe('no TLS connection within 200 ms');
    const closing = await listen(createServer((socket) => socket.end()));
    expect(await textOf(config, 'local_pool', closing)).toBe('connection closed without an answer');
    const refused = createServer();
    const address = await listen(refused);
    await new Promise((resolve) => refused.close(resolve));
    expect(await textOf(config, 'local_pool', address)).toBe('connection refused');
  });

  test('and wants a certificate: in the words of a person', async () => {
    const address = await startTls({ requestCert: true, ca: await readFile(ca.certFile), maxVersion: 'TLSv1.2' });
    const text = await textOf(configWith(trusting(ca.certFile)), 'local_pool', address);
    expect(text).toMatch(/^TLS: (ssl\/tls|sslv3) alert handshake failure$/);
  });

  test('and by HTTP/2 has another name', async () => {
    const config = configWith(trusting(ca.certFile, 'elsewhere.test'), '{ path: /healthz }', 'http2');
    expect(await textOf(config, 'local_pool', await startTls({ ALPNProtocols: ['h2'] }))).toMatch(
      /^TLS: Hostname\/IP does not match/,
    );
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

  test('and is gone', async () => {
    const gone = createServer();
    const address = await listen(gone);
    await new Promise((resolve) => gone.close(resolve));
    expect(await textOf(config, 'local_pool', address)).toBe('connection refused');
  });

  test('answers with another status, or not at all', async () => {
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
