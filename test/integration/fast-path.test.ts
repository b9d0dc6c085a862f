import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { FAST_PATH_KEY } from '../../src/contract.ts';
import { createFastPath, type FastPath } from '../../src/fast-path/fast-path.ts';
import { ChangeLog } from '../../src/log/changes.ts';
import { FakeAdmin } from '../support/fake-admin.ts';

let admin: FakeAdmin;
let log: string[];
const opened: FastPath[] = [];

beforeEach(async () => {
  admin = await FakeAdmin.start();
  log = [];
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((fastPath) => fastPath.close()));
  await admin.close();
});

function create(shouldEnable: () => boolean, isEnabled = true): FastPath {
  const logger = pino({ base: null }, { write: (line: string) => void log.push(JSON.parse(line).msg) });
  const fastPath = createFastPath({ admin: admin.address, isEnabled, shouldEnable, changes: new ChangeLog(logger) });
  opened.push(fastPath);
  return fastPath;
}

const keyNow = () => admin.runtime.get(FAST_PATH_KEY);
const writes = () => admin.requests.filter((path) => path.startsWith('/runtime_modify'));

describe('the key of the fast path', () => {
  test('is set and taken away as health has it, and each is said once', async () => {
    let shouldEnable = true;
    const fastPath = create(() => shouldEnable);
    for (let count = 0; count < 3; count++) await fastPath.update();
    expect([keyNow(), fastPath.state, writes().length]).toEqual(['100', 'on', 1]);
    shouldEnable = false;
    for (let count = 0; count < 3; count++) await fastPath.update();
    expect([keyNow(), fastPath.state, writes().length]).toEqual(['0', 'off', 2]);
    expect(log).toEqual([
      'the fast path is on: requests that need no decision do not leave Envoy',
      'the fast path is off: every request asks the sidecar',
    ]);
  });

  test('is taken away without being asked for first', async () => {
    let shouldEnable = true;
    const fastPath = create(() => shouldEnable);
    await fastPath.update();
    shouldEnable = false;
    const before = admin.requests.length;
    await fastPath.update();
    expect(admin.requests.slice(before)).toEqual([`/runtime_modify?${FAST_PATH_KEY}=0`]);
  });

  test('is set again when Envoy has lost it', async () => {
    const fastPath = create(() => true);
    await fastPath.update();
    admin.runtime.clear();
    await waitUntil(
      async () => {
        await fastPath.update();
        return keyNow() === '100';
      },
      { what: 'the key to be set again' },
    );
  });

  test('follows a change that comes while Envoy is being asked', async () => {
    let shouldEnable = true;
    const fastPath = create(() => shouldEnable);
    const first = fastPath.update();
    shouldEnable = false;
    await Promise.all([first, fastPath.update()]);
    expect(keyNow() ?? '0').toBe('0');
  });

  test.each(['closing', 'truncated', 'html', 'wrong status'] as const)(
    'is taken away as soon as Envoy takes it, when it answered first like this: %s',
    async (mood) => {
      let shouldEnable = true;
      const fastPath = create(() => shouldEnable);
      await fastPath.update();
      shouldEnable = false;
      admin.mood = mood;
      for (let count = 0; count < 3; count++) await fastPath.update();
      expect(keyNow()).toBe('100');
      admin.mood = 'well';
      await fastPath.update();
      expect(keyNow()).toBe('0');
    },
  );

  test('that Envoy does not let be set is said once, and not asked for at every poll', async () => {
    admin.hasAdminLayer = false;
    const fastPath = create(() => true);
    for (let count = 0; count < 5; count++) await fastPath.update();
    expect(fastPath.state).toBe('refused');
    expect(admin.requests).toHaveLength(2);
    expect(log).toHaveLength(1);
    expect(log[0]).toMatch(/503.*No admin layer specified.*admin_layer in layered_runtime/);
  });

  test('is taken away at the end', async () => {
    const fastPath = create(() => true);
    await fastPath.update();
    await fastPath.close();
    expect(keyNow()).toBe('0');
  });

  test('does not keep a stop waiting when Envoy hangs', async () => {
    const fastPath = create(() => true);
    await fastPath.update();
    admin.mood = 'silent';
    const startedAtMs = performance.now();
    await fastPath.close();
    expect(performance.now() - startedAtMs).toBeLessThan(2_500);
  });

  test.each(['100', '0', undefined])(
    'that an earlier process left is taken away once where it is not enabled: %s',
    async (left) => {
      if (left !== undefined) admin.runtime.set(FAST_PATH_KEY, left);
      const fastPath = create(() => true, false);
      for (let count = 0; count < 3; count++) await fastPath.update();
      expect(keyNow() ?? '0').toBe('0');
      expect(fastPath.state).toBe('unused');
      expect(admin.requests).toHaveLength(left === '100' ? 2 : 1);
      expect(log).toEqual([]);
    },
  );

  test('is not asked for again and again where it is not enabled and may not be read', async () => {
    admin.mood = 'wrong status';
    const fastPath = create(() => true, false);
    for (let count = 0; count < 3; count++) await fastPath.update();
    expect(admin.requests).toHaveLength(1);
    expect(log).toEqual([]);
  });
});
