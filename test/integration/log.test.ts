import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { formatAddress } from '../../src/config/address.ts';
import { clientOf, startEast } from '../support/east.ts';
import { type LogLine, type TestLog, temporaryDirectory, WEST_COOKIE } from './site.ts';

async function untilLogged(log: TestLog, pattern: RegExp, count = 1): Promise<LogLine[]> {
  const lines = () => log.lines.filter((line) => pattern.test(line.message));
  await waitUntil(() => lines().length >= count, { what: `${count} lines like ${pattern}`, intervalMs: 5 });
  return lines();
}

describe('a connection of an Envoy', () => {
  test('is logged with its first call, and with how long and how many when it has gone', async () => {
    const { config, log } = await startEast({}, { logLevel: 'info' });
    const client = clientOf(config);
    for (let time = 0; time < 7; time++) await client.decide({});
    const [came] = await untilLogged(log, /Envoy connected/);
    const peer = String(came?.fields.peer);
    expect(came).toMatchObject({ level: 'info', message: `Envoy connected: ${peer}` });
    expect(peer).toMatch(/^127\.0\.0\.1:\d+$/);
    client.close();
    const [gone] = await untilLogged(log, /Envoy disconnected/);
    expect(gone?.level).toBe('info');
    expect(gone?.message).toMatch(/^Envoy disconnected: 127\.0\.0\.1:\d+, after \d+(\.\d)? s and 7 streams$/);
    expect(gone?.fields).toMatchObject({ peer, streams: 7 });
    expect(log.matching(/Envoy (dis)?connected/)).toHaveLength(2);
  });

  test('has the socket for an address where it comes over one', async () => {
    const listen = `unix:${await temporaryDirectory()}/ext_proc.sock`;
    const { config, log } = await startEast({ listen }, { logLevel: 'info' });
    await clientOf(config).decide({});
    await untilLogged(log, /Envoy connected/);
    expect(log.matching(/Envoy connected/)).toEqual([`info Envoy connected: ${listen}`]);
  });

  test('is none where it only asks for health, or for nothing', async () => {
    const { config, log } = await startEast({}, { logLevel: 'info' });
    const checker = clientOf(config);
    expect(await checker.health()).toBe('SERVING');
    checker.close();
    const [host = '', port = ''] = formatAddress(config.listen).split(':');
    for (const sent of ['', 'GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01']) {
      const scanner = connect(Number(port), host);
      scanner.on('error', () => {});
      await once(scanner, 'connect');
      scanner.end(sent);
      scanner.resume();
      await once(scanner, 'close');
    }
    const asker = clientOf(config);
    await asker.decide({});
    asker.close();
    await untilLogged(log, /Envoy disconnected/);
    expect(log.matching(/Envoy (dis)?connected/)).toHaveLength(2);
  });

  test('that comes and goes without end does not flood the log', async () => {
    const { config, log } = await startEast({}, { logLevel: 'info' });
    for (let time = 0; time < 30; time++) {
      const client = clientOf(config);
      await client.decide({});
      client.close();
    }
    await untilLogged(log, /Envoy disconnected/);
    expect(log.matching(/Envoy (dis)?connected/)).toHaveLength(40);
  });
});

describe('decisions at debug', () => {
  test('have the id that Envoy gave the request', async () => {
    const { config, log } = await startEast();
    const client = clientOf(config);
    await client.decide({ cookie: `${WEST_COOKIE}=1`, 'x-request-id': '5b1c-77' });
    await client.decide({});
    await client.decide({ 'x-request-id': 'x'.repeat(10_000) });
    const fields = (await untilLogged(log, /^decision$/, 3)).map((line) => line.fields);
    expect(fields[0]).toMatchObject({ decision: 'forward', owner: 'west', pool: 'remote_pool', requestId: '5b1c-77' });
    expect(fields[1]).not.toHaveProperty('requestId');
    expect(fields[2]?.requestId).toBe('x'.repeat(128));
  });

  test('are so many a second, and how many were left out is said', async () => {
    const { config, log } = await startEast();
    const client = clientOf(config);
    const leftOut = () => log.lines.filter(({ message }) => /more decisions/.test(message));
    let sent = 0;
    while (leftOut().length === 0) {
      await Promise.all(Array.from({ length: 50 }, () => client.decide({})));
      sent += 50;
    }
    const countOf = () => leftOut().reduce((sum, { fields }) => sum + Number(fields.leftOut), 0);
    const logged = () => log.matching(/^decision$/).length;
    await waitUntil(() => logged() + countOf() === sent, { what: 'each decision to be logged or counted' });
    expect(leftOut()[0]?.message).toBe(`${leftOut()[0]?.fields.leftOut} more decisions in this second: 100 are logged`);
    expect(logged()).toBeLessThan(sent);
  });
});
