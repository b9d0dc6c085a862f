import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';
import { siteKey } from '../../src/contract.ts';
import { Client } from '../support/client.ts';
import {
  EAST_COOKIE,
  patchYaml,
  type SiteLab,
  startTwoSites,
  type TwoSites,
  WEST_COOKIE,
} from '../support/two-sites.ts';

const FAST_PATH_KEY = siteKey(DEFAULT_APPLICATION, 'east');

let lab: TwoSites;
let east: SiteLab;
let west: SiteLab;
beforeAll(async () => {
  lab = await startTwoSites({ fastPath: true });
  ({ east, west } = lab);
});
afterAll(async () => await lab?.close());
afterEach(async () => await lab.restore());

/** The status line and headers that raw bytes are answered with. */
async function send(site: SiteLab, lines: readonly string[]): Promise<string> {
  const { hostname, port } = new URL(site.url);
  const socket = connect(Number(port), hostname);
  socket.write(Buffer.from(`${[...lines, 'Host: app', 'Connection: close'].join('\r\n')}\r\n\r\n`, 'latin1'));
  let text = '';
  for await (const part of socket) text += (part as Buffer).toString('latin1');
  return text;
}

test.each([
  ['the cookie of another site', ['GET / HTTP/1.1', `Cookie: ${WEST_COOKIE}=x`], /"site":"west"/],
  ['it after others', ['GET / HTTP/1.1', `Cookie: a=1; ${EAST_COOKIE}=x; ${WEST_COOKIE}=x`], /"site":"west"/],
  ['it in a second Cookie line', ['GET / HTTP/1.1', 'Cookie: a=1', `Cookie: ${WEST_COOKIE}=x`], /"site":"west"/],
  ['it after a byte that is no UTF-8', ['GET / HTTP/1.1', `Cookie: a=\xff\xfe; ${WEST_COOKIE}=x`], /"site":"west"/],
  ['it as a part of another name', ['GET / HTTP/1.1', `Cookie: X${WEST_COOKIE}=x`], /"site":"east"/],
  ['the hop header', ['GET / HTTP/1.1', 'x-site-hop: west', `Cookie: ${WEST_COOKIE}=x`], /"site":"east"/],
  ['an empty hop header', ['GET / HTTP/1.1', 'x-site-hop:'], /"site":"east"/],
  ['the status URI', ['GET /local_pool_status HTTP/1.1'], /LOCAL POOL STATE: UP/],
  ['it with a query', ['GET /local_pool_status?a=b HTTP/1.1'], /LOCAL POOL STATE: UP/],
  ['it with an escape', ['GET /local%5Fpool_status HTTP/1.1'], /LOCAL POOL STATE: UP/],
  ['it with an escaped slash', ['GET %2Flocal_pool_status HTTP/1.1'], /LOCAL POOL STATE: UP|400 Bad Request/],
  ['a longer path than it', ['GET /local_pool_status_2 HTTP/1.1'], /"site":"east"/],
])('a request with %s is decided as without the fast path', async (_, lines, expected) => {
  expect(await send(east, lines)).toMatch(expected);
});

test('the key goes when the local pool goes: new clients are served by the other site', async () => {
  await east.stopPool();
  await east.waitForFastPath('off');
  const client = new Client();
  await waitUntil(
    async () => {
      client.cookies.clear();
      const { status, body } = await client.request(east.url);
      return status === 200 && body.includes('"site":"west"');
    },
    { what: 'west to serve new clients of east' },
  );
  expect(await east.runtime(siteKey(DEFAULT_APPLICATION, 'west'))).toBe('100');
  await west.waitForFastPath('off', 'east');
  await east.startPool();
  for (const site of lab.sites) await site.waitForFastPath('on', 'east');
  client.close();
});

test('a restarted Envoy gets the key again, from a sidecar that did not restart', async () => {
  await east.envoy?.stop('SIGKILL');
  await east.startEnvoy();
  await east.waitForFastPath('on');
});

test('a sidecar that stops takes the key away; one that is killed leaves it, and requests are served', async () => {
  await east.sidecar().stop('SIGTERM');
  await east.waitForFastPath('off');
  const client = new Client();
  expect((await client.ask(east.url)).site).toBe('east');
  await east.startSidecar();
  await east.waitForFastPath('on');
  await east.sidecar().stop('SIGKILL');
  expect(await east.runtime(FAST_PATH_KEY)).toBe('100');
  expect((await client.ask(east.url)).site).toBe('east');
  await east.startSidecar();
  client.close();
});

test('an Envoy that does not let the key be set: every request asks the sidecar, which says why', async () => {
  interface Bootstrap {
    layered_runtime: { layers: { name: string }[] };
  }
  const two = await startTwoSites({
    fastPath: false,
    configure: (file) => {
      file.envoy.fast_path = true;
    },
    patchBootstrap: patchYaml<Bootstrap>(({ layered_runtime: runtime }) => {
      runtime.layers = runtime.layers.filter((layer) => layer.name !== 'admin');
    }),
  });
  await two.east
    .sidecar()
    .waitForLine(/the fast path is off: Envoy does not let its runtime key .* be set.*admin_layer/);
  expect((await two.east.state()).fast_path).toBe('refused');
  const client = new Client();
  await client.ask(`${two.east.url}/decided`);
  const line = await two.east.envoy?.waitForLine(/"path":"\/decided"/);
  expect(JSON.parse(line ?? '{}')).toMatchObject({ route: 'decided_local', decision: 'local', owner: 'none' });
  client.close();
  await two.close();
});
