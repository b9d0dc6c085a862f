import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ListenError } from '../../src/listener/listen.ts';
import { startEast } from '../support/east.ts';
import { freePorts } from '../support/free-ports.ts';
import { runCli } from './cli-process.ts';
import { ExtProcClient } from './ext-proc-client.ts';
import { eastFile, startAdmin, temporaryDirectory, writeSiteFile } from './site.ts';

/** Both listeners on Unix sockets of the running test. */
async function sockets() {
  const directory = await temporaryDirectory();
  const [extProc, ops] = [join(directory, 'ext_proc.sock'), join(directory, 'ops.sock')];
  return { paths: [extProc, ops] as const, keys: { listen: `unix:${extProc}`, ops_listen: `unix:${ops}` } };
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o7777).toString(8);
}

const isRoot = process.getuid?.() === 0;

describe('a Unix socket', () => {
  test.each([
    ['of user and group alone by default', {}, '660'],
    ['with the mode that the config gives', { socket: { mode: '0600' } }, '600'],
    ['for all, where the config says so', { socket: { mode: '0666' } }, '666'],
  ])('is %s', async (_, changes, mode) => {
    const { paths, keys } = await sockets();
    await startEast({ ...keys, ...changes });
    expect(await Promise.all(paths.map(modeOf))).toEqual([mode, mode]);
    const client = new ExtProcClient({ kind: 'unix', path: paths[0] });
    onTestFinished(() => client.close());
    expect((await client.decide({})).decision).toBe('local');
  });

  test('leaves files that are made later as they would be', async () => {
    const before = process.umask();
    await startEast((await sockets()).keys);
    expect(process.umask()).toBe(before);
  });

  test.runIf(isRoot)('has the owner and the group that the config gives', async () => {
    const { paths, keys } = await sockets();
    await startEast({ ...keys, socket: { owner: 65_534, group: 1_000 } });
    for (const path of paths) expect(await stat(path)).toMatchObject({ uid: 65_534, gid: 1_000 });
    expect(await modeOf(paths[0])).toBe('660');
  });

  test.skipIf(isRoot)('that can not be given away is an error', async () => {
    const { keys } = await sockets();
    await expect(startEast({ ...keys, socket: { owner: 65_534 } })).rejects.toThrow(ListenError);
  });
});

describe('a listener that others can reach without a certificate', () => {
  test('is warned of at the start, each by itself', async () => {
    const [listen, ops] = await freePorts(2);
    const exposed = { listen: `0.0.0.0:${listen}`, ops_listen: `0.0.0.0:${ops}`, insecure: true };
    expect((await startEast(exposed)).log.matching(/insecure/)).toEqual([
      expect.stringContaining(`warn insecure: listen 0.0.0.0:${listen} is not loopback and has no TLS: every client`),
      expect.stringContaining(`warn insecure: ops_listen 0.0.0.0:${ops} is not loopback and has no TLS: every client`),
    ]);
  });

  test('is the only one that is warned of', async () => {
    expect((await startEast({ insecure: true })).log.matching(/insecure/)).toEqual([]);
  });

  test.each([
    ['--listen', '0.0.0.0:1', {}, 'is not loopback and has no TLS: every client that reaches it can keep it busy'],
    [
      '--ops-listen',
      '0.0.0.0:1',
      {},
      'is not loopback and has no TLS: every client that reaches it can drain this site',
    ],
    [
      '--listen',
      'unix:/tmp/x.sock',
      { listen_tls: { cert_file: 'c', key_file: 'k', client_ca_file: 'a' } },
      'is a Unix socket, which has no TLS: remove listen_tls',
    ],
  ])('is refused as %s %s', async (flag, address, changes, why) => {
    const configFile = await writeSiteFile(await eastFile(await startAdmin(), changes));
    const { code, stdout, stderr } = await runCli(['serve', '-c', configFile, flag, address]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(`${flag}: "${address}" ${why}`);
  });
});
