import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { importText } from '../../../src/import/import-text.ts';

const SCRIPT = readFileSync(new URL('../../fixtures/datascript/original.lua', import.meta.url), 'utf8');
const EVENT = 'VS_DATASCRIPT_EVT_HTTP_REQ';
const OTHER = 'avi.http.add_header("X-Site", "east")';

function lines(source: string) {
  const imported = importText(source);
  if (imported.kind !== 'original') throw new Error(imported.why);
  const [script, ...others] = imported.scripts;
  expect(others).toEqual([]);
  const { statusUri, local, remotes } = script.settings;
  const all = [statusUri, local.pool, local.cookie, remotes[0]?.pool, remotes[0]?.cookie];
  return { linesOf: script.linesOf, found: all.map((each) => each && [each.value, each.line]) };
}

function whyNot(source: string) {
  const imported = importText(source);
  return imported.kind === 'original' ? 'it was imported' : `${imported.kind}: ${imported.why}`;
}

/** What {@link lines} finds in the script with so many lines in front. */
function found(offset: number, linesOf: string | null = null) {
  const all = { '/local_pool_status': 13, local_pool: 9, KVAAVROI: 4, remote_pool: 11, DDVHSLLQ: 7 };
  return { linesOf, found: Object.entries(all).map(([value, line]) => [value, line + offset]) };
}

function indent(text: string, by: string): string {
  return text.replaceAll(/^(?=.)/gm, by);
}

describe("Avi's JSON", () => {
  const set = (name: string, ...scripts: [event: string, script: string][]) => ({
    name,
    datascript: scripts.map(([evt, script]) => ({ evt, script })),
  });
  const east = set('east', [EVENT, SCRIPT]);
  const headers = set('headers', [EVENT, OTHER]);

  test.each([
    ['an object', east],
    ['a list', [east]],
    ["an API's answer", { count: 2, results: [headers, east] }],
    ['a whole configuration', { VirtualService: [{ name: 'vs' }], VSDataScriptSet: [headers, east], Pool: [] }],
    ['several events', set('east', ['VS_DATASCRIPT_EVT_HTTP_RESP', SCRIPT.replace('KVAAVROI', 'X')], [EVENT, SCRIPT])],
    ['the same script in two sets', [east, set('again', [EVENT, SCRIPT])]],
    ["Terraform's JSON", { resource: { avi_vsdatascriptset: { east } } }],
    ['no event', { name: 'east', datascript: [{ script: SCRIPT }] }],
    ['Windows line ends', set('east', [EVENT, SCRIPT.replaceAll('\n', '\r\n')])],
  ])("the script is taken out of %s, with the script's own lines", (_, value) => {
    expect(lines(JSON.stringify(value))).toEqual(found(0, 'east'));
    expect(lines(`\n${JSON.stringify(value, null, 2)}\n`)).toEqual(found(0, 'east'));
  });

  test('what a script of Terraform refers to is said', () => {
    expect(whyNot(JSON.stringify(set('a', [EVENT, `\${file("site.lua")}`])))).toBe(
      'unreadable: has no script in it but file("site.lua"): import the file that this refers to',
    );
  });

  test.each([
    [
      'another script',
      headers,
      `other: this is not the site-persistence script: it never asks how many servers of a pool are up and selects no other site's pool by the presence of that site's cookie`,
    ],
    ['no script', { name: 'a pool' }, 'other: this is not the site-persistence script: it has no DataScript'],
    [
      'another event',
      set('a', ['VS_DATASCRIPT_EVT_HTTP_RESP', SCRIPT]),
      'other: this is not the site-persistence script: it has no DataScript of the event HTTP_REQ',
    ],
    [
      'other scripts',
      [headers, set('b\n', [EVENT, 'x = 1'])],
      'other: none of these is the site-persistence script: "headers", "b"',
    ],
    [
      'no Lua',
      set('a', [EVENT, 'if']),
      "unreadable: has a script that is not Lua: line 1, column 3: <expression> expected near '<eof>'",
    ],
  ])('%s is refused', (_, value, why) => {
    expect(whyNot(JSON.stringify(value))).toBe(why);
  });

  test('several of them are taken out, in their order, each with its name', () => {
    const mail = set('mail', [EVENT, SCRIPT.replace('KVAAVROI', 'MAIL')]);
    const nameless = { datascript: [{ script: SCRIPT.replace('KVAAVROI', 'X') }] };
    const imported = importText(JSON.stringify({ VSDataScriptSet: [east, headers, mail, nameless] }));
    if (imported.kind !== 'original') throw new Error(imported.why);
    expect(
      imported.scripts.map(({ name, linesOf, settings }) => [name, linesOf, settings.local.cookie?.value]),
    ).toEqual([
      ['east', 'east', 'KVAAVROI'],
      ['mail', 'mail', 'MAIL'],
      [null, 'without a name', 'X'],
    ]);
  });

  test('broken JSON is refused in one line', () => {
    expect(whyNot('{\n"name": "east",\n}')).toMatch(/^unreadable: is neither a Lua script nor JSON: .+$/);
  });
});

describe('Terraform', () => {
  const resource = (script: string, event = `evt = "${EVENT}"`) =>
    `resource "avi_vsdatascriptset" "east" {\n  name = "east"\n  datascript {\n    ${event}\n    script = ${script}\n  }\n}\n`;

  test.each([
    ['a heredoc', resource(`<<EOF\n${SCRIPT}EOF`), 5],
    ['an indented heredoc', resource(`<<-LUA\n${indent(SCRIPT, '      ')}    LUA`), 5],
    ['a heredoc in a function', resource(`trimspace(<<EOT\n${SCRIPT}EOT\n)`), 5],
    ['a list of objects', `x = {\n  datascript = [{\n evt = "${EVENT}"\n script = <<EOF\n${SCRIPT}EOF\n}]\n}`, 4],
    ['a heredoc among the locals', `locals {\n  lua = <<EOF\n${SCRIPT}EOF\n}\n${resource('local.lua')}`, 2],
    ['the event last', resource(`<<EOF\n${SCRIPT}EOF\n evt = "${EVENT}"`, ''), 5],
    ['Windows line ends', resource(`<<EOF\n${SCRIPT}EOF`).replaceAll('\n', '\r\n'), 5],
    ['several scripts', `${resource(`<<EOF\n${OTHER}\nEOF`)}# "\n${resource(`<<EOF\n${SCRIPT}EOF`)}`, 15],
  ])("the script is taken out of %s, with the file's lines", (_, source, offset) => {
    expect(lines(source)).toEqual(found(offset));
  });

  test("the script is taken out of a string, with the script's own lines", () => {
    expect(lines(resource(JSON.stringify(SCRIPT)))).toEqual(found(0, 'east'));
  });

  test.each([
    [`file("\${path.module}/site.lua")`, `file("\${path.module}/site.lua")`],
    ['templatefile("site.lua.tpl", { pool = "x" })', 'templatefile("site.lua.tpl")'],
    ['var.script', 'var.script'],
    ['join("", ["x = 1"])', 'join("")'],
  ])('what a script refers to is said: %s', (script, reference) => {
    expect(whyNot(resource(script))).toBe(
      `unreadable: has no script in it but ${reference}: import the file that this refers to`,
    );
  });

  test('a script of another event is passed over', () => {
    const source = resource(`<<EOF\n${SCRIPT}EOF`, 'evt = "VS_DATASCRIPT_EVT_HTTP_RESP"');
    expect(whyNot(source)).toMatch(/it has no DataScript of the event HTTP_REQ$/);
  });
});

describe('Ansible', () => {
  const task = (script: string) => `---
- hosts: localhost
  tasks:
    - name: the script
      avi_vsdatascriptset:
        controller: "{{ controller }}"
        name: east
        datascript:
          - evt: ${EVENT}
            script: ${script}
        state: present
`;
  const block = indent(SCRIPT, '              ');

  test.each([
    ['a block', task(`|\n${block}`), 10],
    ['a block of a module by its full name', task(`|-\n${block}`).replace('avi_vs', 'vmware.alb.avi_vs'), 10],
    ['Windows line ends', task(`|\n${block}`).replaceAll('\n', '\r\n'), 10],
    ['several documents', `--- {}\n${task(`|\n${block}`)}`, 11],
  ])("the script is taken out of %s, with the file's lines", (_, source, offset) => {
    expect(lines(source)).toEqual(found(offset));
  });

  test("the script is taken out of a quoted text, with the script's own lines", () => {
    expect(lines(task(JSON.stringify(SCRIPT)))).toEqual(found(0, 'east'));
  });

  test('what a script refers to is said', () => {
    expect(whyNot(task(`"{{ lookup('file', 'site.lua') }}"`))).toBe(
      "unreadable: has no script in it but {{ lookup('file', 'site.lua') }}: import the file that this refers to",
    );
    expect(whyNot(task('x').replace(/datascript:(.|\n)*/, 'datascript: "{{ scripts }}"'))).toMatch(
      /but \{\{ scripts \}\}:/,
    );
  });
});

test.each([
  ['JSON', `${'['.repeat(50_000)}${']'.repeat(50_000)}`],
  ['YAML', `datascript: ${'['.repeat(50_000)}${']'.repeat(50_000)}`],
  ['Terraform', `datascript {\n${'{'.repeat(50_000)}`],
])('%s nested thousands of levels deep is refused', (_, text) => {
  expect(whyNot(text)).toMatch(/^(other|unreadable): \P{Cc}+$/u);
});

test('whatever the text, there is an answer in one line', () => {
  const piece = fc.constantFrom(
    ...[
      'resource "avi_vsdatascriptset" "x" {',
      'datascript {',
      'datascript:',
      '\n  - script: ',
      '|\n',
      '<<EOF\n',
      'EOF\n',
    ],
    ...[
      'evt = "',
      'script = ',
      '"',
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"script"',
      '"datascript"',
      '\\u',
      '{{',
      '}}',
      '&a',
      '*a',
    ],
    ...[
      'avi.pool.get_servers("p")',
      'if avi.http.cookie_exists("c") then',
      'avi.pool.select(',
      'end',
      '--',
      '/*',
      '#',
      '\r\n',
    ],
  );
  const source = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc.array(piece, { maxLength: 30 }).map((parts) => parts.join('')),
    fc.array(piece, { maxLength: 30 }).map((parts) => parts.join(' ')),
  );
  fc.assert(
    fc.property(source, (text) => {
      const imported = importText(text);
      if (imported.kind !== 'original') expect(imported.why).toMatch(/^\P{Cc}+$/u);
    }),
    { numRuns: 3_000 },
  );
});
