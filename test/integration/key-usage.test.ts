import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { whyFileIsRefused } from '../../src/listener/key-usage.ts';
import { TestCa } from '../support/certificates.ts';

let directory: string;
let ca: TestCa;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-key-usage-'));
  ca = await TestCa.create(directory);
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

test.each(['keyEncipherment', 'critical,keyEncipherment', 'critical,keyEncipherment,dataEncipherment'])(
  'an RSA certificate for %s is refused by some Envoys',
  async (keyUsage) => {
    const { certFile } = await ca.issue('narrow', { keyUsage });
    expect(await whyFileIsRefused(certFile)).toMatch(/^its keyUsage lacks digitalSignature: Envoy 1\.38/);
  },
);

test.each(['digitalSignature', 'critical,digitalSignature,keyEncipherment'])(
  'an RSA certificate for %s is taken by all',
  async (keyUsage) => {
    const { certFile } = await ca.issue('wide', { keyUsage });
    expect(await whyFileIsRefused(certFile)).toBeNull();
  },
);

test('a certificate without keyUsage, and a file that cannot be read, are not complained of', async () => {
  expect(await whyFileIsRefused((await ca.issue('any')).certFile)).toBeNull();
  expect(await whyFileIsRefused(join(directory, 'nothing'))).toBeNull();
});
