import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCli } from './cli-process.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-import-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function importScript(name: string, source: string) {
  const file = join(directory, name);
  await writeFile(file, source);
  return { file, ...(await runCli(['import', file])) };
}

test('prints the config file on stdout, and what it left out on stderr', async () => {
  const { file, code, stdout, stderr } = await importScript(
    'site.lua',
    `local_pool = "east"
remote_pool = "west"
remote_cookie = "DDVHSLLQ"
avi.vs.log("hello")
os.execute("touch ${directory}/was-run")
if avi.http.get_cookie(remote_cookie) then avi.pool.select(remote_pool) else avi.pool.select(local_pool) end`,
  );
  expect(code).toBe(0);
  expect(stdout).toMatch(/^ {2}cluster: "east" +# line 1$/m);
  expect(stdout).toMatch(/^ {4}cookie: "DDVHSLLQ" +# line 3$/m);
  expect(stderr).toBe(
    `${file}:4: avi.vs.log is not part of the original rules\n${file}:5: os.execute is not part of the original rules\n`,
  );
});

test('says what is wrong with a file that is no script, or not there', async () => {
  const bad = await importScript('bad.lua', 'if x then');
  expect([bad.code, bad.stdout]).toEqual([2, '']);
  expect(bad.stderr).toBe(`${bad.file} is not a Lua script: line 1, column 10: 'end' expected near '<eof>'\n`);
  const absent = await runCli(['import', join(directory, 'absent.lua')]);
  expect([absent.code, absent.stderr.split('\n').length]).toEqual([2, 2]);
  expect((await runCli(['import'])).code).toBe(2);
});
