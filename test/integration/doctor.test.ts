import { expect, test } from 'vitest';
import { describeAdmin } from '../../src/envoy-admin/admin-client.ts';
import { runDoctor } from '../support/doctor-site.ts';
import type { AdminMood } from '../support/fake-admin.ts';
import { eastFile, startAdmin, writeSiteFile } from './site.ts';

async function doctorOf(mood: AdminMood, ...args: string[]) {
  const admin = await startAdmin();
  admin.mood = mood;
  const result = await runDoctor(['doctor', '--config', await writeSiteFile(await eastFile(admin)), ...args]);
  return { ...result, where: `at ${describeAdmin(admin.address)} (envoy.admin): ` };
}

test('an admin interface that cannot be reached is exit code 1 and one line', async () => {
  const admin = await startAdmin();
  const file = await writeSiteFile(await eastFile(admin));
  await admin.close();
  const { code, stdout, stderr } = await runDoctor(['doctor', '-c', file]);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(
    /^no Envoy answers at http:\/\/127\.0\.0\.1:\d+ \(envoy\.admin\): connect ECONNREFUSED .*; is Envoy running, and is this its admin address\?\n$/,
  );
});

test.each<[AdminMood, RegExp]>([
  ['html', /its answer to GET \/server_info is not JSON\n$/],
  ['other json', /its answer to GET \/server_info has no version\n$/],
  ['wrong status', /GET \/server_info was answered 503\n$/],
])('what is no Envoy (%s) is exit code 1 and one line', async (mood, why) => {
  const { code, stdout, stderr, where } = await doctorOf(mood, '--json');
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain(`what answers is no Envoy's admin interface, ${where}`);
  expect(stderr).toMatch(why);
  expect(stderr.split('\n')).toHaveLength(2);
});

test.each<AdminMood>(['closing', 'cut off', 'not http'])(
  'a connection that breaks (%s) is exit code 1 and one line',
  async (mood) => {
    const { code, stdout, stderr, where } = await doctorOf(mood);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(`no Envoy answers ${where}`);
    expect(stderr.split('\n')).toHaveLength(2);
  },
);

test('an Envoy that shows only what the sidecar needs: what cannot be checked is said, and that it is wrong', async () => {
  const { code, stdout, stderr } = await doctorOf('well');
  expect(code).toBe(1);
  expect(stdout).toContain('WRONG  admin answers');
  expect(stdout).toContain('GET /config_dump was answered 404: most of what follows cannot be checked');
  expect(stdout).toMatch(/\?\s+decided /);
  expect(stderr).toMatch(/^\d+ of \d+ findings (is|are) wrong\n$/);
});

test('a bad config file is exit code 2', async () => {
  const { code, stdout, stderr } = await runDoctor(['doctor', '-c', await writeSiteFile('site: east\n')]);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain('local_pool: is missing');
});

test('the help says what the marks and the exit codes mean', async () => {
  const { code, stdout } = await runDoctor(['doctor', '--help']);
  expect(code).toBe(0);
  for (const part of ['--config <file>', '--json', 'WRONG', 'could not be checked', 'Exit codes: 0', 'envoy.admin']) {
    expect(stdout).toContain(part);
  }
});
