import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { linesOf, runCli } from './cli-process.ts';

let directory: string;
let original: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-import-'));
  original = await readFile(new URL('../fixtures/datascript/original.lua', import.meta.url), 'utf8');
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function importScript(name: string, source: string | Buffer) {
  const file = join(directory, name);
  await writeFile(file, source);
  return { file, ...(await runCli(['import', file])) };
}

/** The settings of {@link original}, as the config file has them. */
const SETTINGS = [
  'status_uri: "/local_pool_status"   # line 13',
  '  cluster: "local_pool"   # line 9',
  '  cookie: "KVAAVROI"   # line 4',
  '    cluster: "remote_pool"   # line 11',
  '    cookie: "DDVHSLLQ"   # line 7',
];

function settingsIn(config: string): string[] {
  return config.split('\n').filter((line) => /^\s*(status_uri|cluster|cookie): /.test(line));
}

test('the script of the Avi examples becomes a config file, without a word on stderr', async () => {
  const { code, stdout, stderr } = await importScript('original.lua', original);
  expect([code, stderr]).toEqual([0, '']);
  expect(settingsIn(stdout)).toEqual(SETTINGS);
});

test.each([
  ['a byte order mark', (text: string) => Buffer.from(`\ufeff${text}`)],
  ['Windows line ends', (text: string) => Buffer.from(text.replaceAll('\n', '\r\n'))],
  ['both', (text: string) => Buffer.from(`\ufeff${text.replaceAll('\n', '\r\n')}`)],
  [
    'UTF-16, as PowerShell saves it',
    (text: string) => Buffer.from(`\ufeff${text.replaceAll('\n', '\r\n')}`, 'utf16le'),
  ],
  ['UTF-16 without a byte order mark', (text: string) => Buffer.from(text, 'utf16le')],
  ['UTF-16, big-endian', (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le').swap16()],
  ['Latin-1 in a comment', (text: string) => Buffer.from(`${text}-- für Köln`, 'latin1')],
])('a script with %s is read the same', async (_, encode) => {
  const { code, stdout, stderr } = await importScript('encoded.lua', encode(original));
  expect([code, stderr]).toEqual([0, '']);
  expect(settingsIn(stdout)).toEqual(SETTINGS);
});

test('what the script does besides is on stderr and in comments; nothing of it is run', async () => {
  const { file, code, stdout, stderr } = await importScript(
    'more.lua',
    `${original}avi.vs.log("hello")\nos.execute("touch ${directory}/was-run")\n`,
  );
  expect(code).toBe(0);
  expect(settingsIn(stdout)).toEqual(SETTINGS);
  expect(stderr).toBe(
    `${file}:34: avi.vs.log is not part of the original rules\n${file}:35: os.execute is not part of the original rules\n`,
  );
  expect(stdout).toMatch(/^# {3}line 34: avi.vs.log is not part of the original rules$/m);
  await expect(readFile(join(directory, 'was-run'))).rejects.toThrow('ENOENT');
});

test("the script is taken out of an export of Avi's; where lines are its own, that is said", async () => {
  const datascript = [{ evt: 'VS_DATASCRIPT_EVT_HTTP_REQ', script: `${original}avi.vs.log("hello")` }];
  const json = await importScript('east.json', JSON.stringify({ results: [{ name: 'east', datascript }] }));
  expect(json.code).toBe(0);
  expect(settingsIn(json.stdout)).toEqual(SETTINGS);
  expect(json.stdout).toMatch(/^# From the script "east" in .+\/east.json, whose own lines are counted here, by /);
  expect(json.stderr).toBe(`${json.file} (script "east", line 34): avi.vs.log is not part of the original rules\n`);

  const heredoc = `resource "avi_vsdatascriptset" "east" {\n  datascript {\n    script = <<EOF\n${original}avi.vs.log("x")\nEOF\n  }\n}`;
  const terraform = await importScript('main.tf', heredoc);
  expect(terraform.code).toBe(0);
  expect(terraform.stdout).toMatch(/^status_uri: "\/local_pool_status" {3}# line 16$/m);
  expect(terraform.stderr).toBe(`${terraform.file}:37: avi.vs.log is not part of the original rules\n`);
});

test('a script that is something else is refused in one line, with exit code 1', async () => {
  const { file, code, stdout, stderr } = await importScript(
    'switch.lua',
    'if string.beginswith(avi.http.get_path(), "/api") then avi.pool.select("api-pool") end',
  );
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toBe(
    `${file}: this is not the site-persistence script: it never asks how many servers of a pool are up and selects no other site's pool by the presence of that site's cookie\n`,
  );
});

test('says what is wrong with a file that is no script, or not there', async () => {
  const bad = await importScript('bad.lua', 'if x then');
  expect([bad.code, bad.stdout]).toEqual([2, '']);
  expect(bad.stderr).toBe(`${bad.file} is not a Lua script: line 1, column 10: 'end' expected near '<eof>'\n`);
  const binary = await importScript('script.bin', Buffer.from([0x1b, 0x4c, 0x75, 0x61, 0x00, 0x00, 0x00]));
  expect([binary.code, binary.stdout]).toEqual([2, '']);
  expect(binary.stderr).toBe(`${binary.file} is not a text file: it has a NUL byte\n`);
  const reference = await importScript('main.tf', 'datascript {\n  script = file("site.lua")\n}');
  expect([reference.code, reference.stdout]).toEqual([2, '']);
  expect(reference.stderr).toBe(
    `${reference.file} has no script in it but file("site.lua"): import the file that this refers to\n`,
  );
  const absent = await runCli(['import', join(directory, 'absent.lua')]);
  expect([absent.code, absent.stderr]).toEqual([2, `cannot import ${directory}/absent.lua: no such file\n`]);
  expect((await runCli(['import'])).code).toBe(2);
});

describe('several scripts', () => {
  const mail = () =>
    original
      .replaceAll('"local_pool"', '"mail_pool"')
      .replace('"remote_pool"', '"mail_remote"')
      .replace('KVAAVROI', 'MAILEAST')
      .replace('DDVHSLLQ', 'MAILWEST');

  async function importAll(sources: Readonly<Record<string, string>>) {
    const folder = await mkdtemp(join(directory, 'several-'));
    const files = Object.keys(sources).map((name) => join(folder, name));
    await Promise.all(Object.values(sources).map(async (source, index) => writeFile(files[index] ?? '', source)));
    return { folder, ...(await runCli(['import', ...files])) };
  }

  async function check(config: string) {
    const file = join(await mkdtemp(join(directory, 'check-')), 'site.yaml');
    await writeFile(file, config);
    const { code, stdout, stderr } = await runCli(['check', '--config', file]);
    return { code, lines: `${stdout}${stderr}`.replaceAll(file, 'site.yaml').trimEnd().split('\n') };
  }

  function fillIn(config: string): string {
    let count = 0;
    return config
      .replace('site: <fill in>', 'site: east')
      .replaceAll('- site: <fill in>', '- site: west')
      .replaceAll('[<fill in>]', () => `[host-${++count}.example.com]`);
  }

  test('become one file with an application of each, which passes check once it is filled in', async () => {
    const { folder, code, stdout, stderr } = await importAll({ 'shop.lua': original, 'mail.lua': mail() });
    expect([code, stderr]).toEqual([0, '']);
    expect(settingsIn(stdout).map((line) => line.trim())).toEqual([
      ...SETTINGS.map((line) => line.trim()),
      'status_uri: "/local_pool_status"   # line 13',
      'cluster: "mail_pool"   # line 9',
      'cookie: "MAILEAST"   # line 4',
      'cluster: "mail_remote"   # line 11',
      'cookie: "MAILWEST"   # line 7',
    ]);
    expect(stdout.match(/# From .*/g)).toEqual(
      ['shop', 'mail'].map((name) => `# From ${folder}/${name}.lua: line numbers are of this file.`),
    );

    const marked = stdout.split('\n').flatMap((line, index) => (/^[^#]*: \[?<fill in>/.test(line) ? [index + 1] : []));
    const before = await check(stdout);
    expect(before.code).toBe(2);
    expect(before.lines.map((line) => Number(/^site\.yaml:(\d+): /.exec(line)?.[1]))).toEqual(marked);

    const after = await check(fillIn(stdout));
    expect([after.code, after.lines[0]]).toEqual([0, 'site.yaml is fine.']);
    expect(after.lines).toContainEqual(
      expect.stringMatching(/^ {2}mail +host-2\.example\.com +east +mail_pool +MAILEAST /),
    );
  });

  test('that call pools and cookies the same are printed all the same, with the fix on stderr and in comments', async () => {
    const { folder, code, stdout, stderr } = await importAll({ 'shop.lua': original, 'shop.txt': original });
    expect(code).toBe(0);
    expect(linesOf(stderr)).toEqual([
      `${folder}/shop.txt: the application is named shop-2: a name has letters, digits and dashes, and is given once`,
      expect.stringMatching(
        /^the pool "local_pool" is in the scripts of shop and shop-2: .* Remove the line "cluster"/,
      ),
      expect.stringMatching(/^the pool "remote_pool" is in the scripts of shop and shop-2: /),
      expect.stringMatching(/^the cookie "KVAAVROI" is in the scripts of shop and shop-2: leave its domain out/),
      expect.stringMatching(/^the cookie "DDVHSLLQ" is in the scripts of shop and shop-2: /),
    ]);
    const refused = await check(fillIn(stdout));
    expect([refused.code, refused.lines]).toEqual([
      2,
      [
        expect.stringContaining('applications[1].local_pool.cluster: "local_pool" is the same as applications[0]'),
        expect.stringContaining('applications[1].remote_pools[0].cluster: "remote_pool" is the same as'),
      ],
    ]);
    const fixed = await check(fillIn(stdout).replaceAll(/^.*cluster: .*has it too.*\n/gm, ''));
    expect([fixed.code, fixed.lines[0]]).toEqual([0, 'site.yaml is fine.']);
    expect(fixed.lines.join('\n')).toMatch(/ shop-2_local .*\n.* shop-2_west /);
  });

  test('of which some cannot be imported: nothing is printed, and each of those is named', async () => {
    const other = 'avi.http.add_header("X-Site", "east")';
    const one = await importAll({ 'shop.lua': original, 'headers.lua': other });
    expect([one.code, one.stdout]).toEqual([1, '']);
    expect(linesOf(one.stderr)).toEqual([
      expect.stringMatching(/headers\.lua: this is not the site-persistence script/),
    ]);
    const two = await importAll({ 'bad.lua': 'if x then', 'shop.lua': `${original}helper()`, 'headers.lua': other });
    expect([two.code, two.stdout]).toEqual([2, '']);
    expect(linesOf(two.stderr)).toEqual([
      expect.stringMatching(/bad\.lua is not a Lua script: line 1/),
      expect.stringMatching(/headers\.lua: this is not the site-persistence script/),
    ]);
  });

  test('in one export become an application each, named after their DataScript sets', async () => {
    const set = (name: string, script: string) => ({
      name,
      datascript: [{ evt: 'VS_DATASCRIPT_EVT_HTTP_REQ', script }],
    });
    const sets = [set('shop_ds', original), set('mail', `${mail()}avi.vs.log("hello")`)];
    const { folder, code, stdout, stderr } = await importAll({ 'avi.json': JSON.stringify({ VSDataScriptSet: sets }) });
    expect(code).toBe(0);
    expect(stdout.match(/(?<=- name: ).*/g)).toEqual(['"shop-ds"', '"mail"']);
    expect(stdout).toContain(`  # From the script "mail" in ${folder}/avi.json: line numbers are the script's own.\n`);
    expect(stdout).toContain('  #   line 34: avi.vs.log is not part of the original rules\n');
    expect(linesOf(stderr)).toEqual([
      `${folder}/avi.json (script "mail", line 34): avi.vs.log is not part of the original rules`,
      `${folder}/avi.json: the application is named shop-ds: a name has letters, digits and dashes, and is given once`,
    ]);
    expect((await check(fillIn(stdout))).code).toBe(0);
  });
});
