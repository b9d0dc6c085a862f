import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ConfigError } from '../../src/config/config-error.ts';
import { parseConfig } from '../../src/config/load.ts';
import { commands, flagsIn, help } from './help.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const PAGES = [
  ...['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'bench/README.md'],
  ...readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

const CONFIGURATION = 'docs/configuration.md';
const OPERATIONS = 'docs/operations.md';

function read(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8');
}

describe('docs/configuration.md', () => {
  test('has every key of the config file in its table, each once, and no other', () => {
    const keys = tableRows(section(read(CONFIGURATION), 'Every key')).flatMap(([key = '']) => codeIn(key));
    const all = allKeys([]);
    // What an application shares with a file that has one only stands there once.
    const once = all.filter(
      (key) => !key.startsWith('applications[].') || !all.includes(key.slice('applications[].'.length)),
    );
    expect(keys.toSorted()).toEqual(once.toSorted());
  });

  test.each(['README.md', CONFIGURATION])(
    'the example in %s is a good config file, with all that an Envoy config needs',
    (page) => {
      const [example] = codeBlocks(read(page)).filter((block) => block.startsWith('site: '));
      expect(parseConfig(example ?? '', page, 'rendering').site).toBe('east');
    },
  );
});

/** Of several runs the one that counts. */
const instructions = z.object({ instructions: z.array(z.number()) }).transform((of) => Math.min(...of.instructions));

describe('README.md', () => {
  test('is read in five minutes: it has at most 200 lines', () => {
    expect(read('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(200);
  });

  test('has the figures of the benchmark with the access log on', () => {
    const measured = z
      .object({
        comparison: z.object({
          contestants: z.array(
            z.object({
              name: z.string(),
              loads: z.array(
                z.object({
                  connections: z.number(),
                  best: z.object({ requestsPerSecond: z.number(), p99Us: z.number(), sidecarRssMb: z.number() }),
                }),
              ),
            }),
          ),
        }),
      })
      .parse(JSON.parse(read('bench/results-with-access-log.json')));
    const best = (name: string) => {
      const { loads } = measured.comparison.contestants.find((each) => each.name === name) ?? { loads: [] };
      const found = loads.find(({ connections }) => connections === 32)?.best;
      if (found === undefined) throw new Error(`${name} was not measured`);
      return found;
    };
    const plain = best('plain').requestsPerSecond;
    const rows = ['plain', 'fast', 'asked', 'go'].map((name) => {
      const { requestsPerSecond, p99Us, sidecarRssMb } = best(name);
      return [
        Math.round(requestsPerSecond).toLocaleString('en-US'),
        (requestsPerSecond / plain).toFixed(2),
        (p99Us / 1_000).toFixed(2),
        name === 'plain' ? '' : sidecarRssMb.toFixed(0),
      ];
    });
    expect(tableRows(section(read('README.md'), 'What it costs')).map(([, ...figures]) => figures)).toEqual(rows);
  });

  test('links to every page of docs', () => {
    const linked = new Set(linksIn(read('README.md')).map((link) => link.replace(/#.*/, '')));
    expect(PAGES.filter((page) => page.startsWith('docs/') && !linked.has(page))).toEqual([]);
  });
});

test('docs/performance.md has the figures of bench/results-instructions.json', () => {
  const { cases } = z
    .object({
      cases: z.array(z.object({ label: z.string(), measured: instructions, baseline: instructions.nullable() })),
    })
    .parse(JSON.parse(read('bench/results-instructions.json')));
  const count = (value: number) => Math.round(value).toLocaleString('en-US');
  const rows = cases.map(({ label, measured, baseline }) => [
    ...[label, count(measured), baseline === null ? '' : count(baseline)],
    baseline === null ? '' : (measured / baseline).toFixed(3),
  ]);
  expect(tableRows(section(read('docs/performance.md'), 'Instructions')).slice(0, rows.length)).toEqual(rows);
});

test.each(PAGES)('each relative link in %s leads to a file, and each anchor to a heading', (page) => {
  const dead = linksIn(read(page)).filter((link) => {
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? page : relative(ROOT, join(ROOT, dirname(page), path));
    if (!existsSync(join(ROOT, target))) return true;
    return anchor !== undefined && !anchorsOf(read(target)).has(anchor);
  });
  expect(dead).toEqual([]);
});

test.each(PAGES)('each alert that %s names is in docs/alerts.yaml, each npm script in package.json', (page) => {
  const text = read(page);
  const alerts = new Set([...read('docs/alerts.yaml').matchAll(/alert: (\w+)/g)].map(([, name]) => name));
  expect([...text.matchAll(/`((?:SitePersistence|Envoy)[A-Z]\w+)`/g)].filter(([, name]) => !alerts.has(name))).toEqual(
    [],
  );
  const { scripts } = z.object({ scripts: z.record(z.string(), z.string()) }).parse(JSON.parse(read('package.json')));
  const named = [...text.matchAll(/npm run (?:--silent )?([\w:]+)/g)].map(([, name = '']) => name);
  expect(named.filter((name) => !(name in scripts))).toEqual([]);
});

test("docs/operations.md's table has every command and flag that --help has, and no other", async () => {
  const documented = tableRows(section(read(OPERATIONS), 'Commands'))
    .filter(([command = '']) => command.startsWith('`'))
    .map(([command = '', flags = '']) => [codeIn(command).join(), codeIn(flags).toSorted()]);
  const known = (await commands()).map(async (command) => [command, ownFlags(await help(command))]);
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(await Promise.all(known)));
});

/** What every command has, which the table leaves to a sentence. */
const COMMON_FLAGS = ['--config', '--help'];

function ownFlags(text: string): string[] {
  return flagsIn(text)
    .filter((flag) => !COMMON_FLAGS.includes(flag))
    .toSorted();
}

/** A step into the config file; a number is one into a list. */
type Step = string | number;

/** The keys below a mapping of the config file, as the table names them: `remote_pools[].cookie.name`. */
function allKeys(mapping: readonly Step[]): string[] {
  return (keysAt(mapping) ?? []).flatMap((key) => {
    const path = [...mapping, key];
    return [named(path), ...allKeys(path), ...allKeys([...path, 0])];
  });
}

/** What the file may have at this place, in the words of the error for a key that it may not; null where no mapping is. */
function keysAt(path: readonly Step[]): string[] | null {
  const unknown = [...path, 'no_such_key'];
  const file = unknown.reduceRight<unknown>((value, step) => (step === 0 ? [value] : { [step]: value }), 1);
  const start = `${at(unknown)}: unknown key; the keys here are `;
  const message = mistakesIn(file).find((mistake) => mistake.startsWith(start));
  return message?.slice(start.length).split(', ') ?? null;
}

function mistakesIn(file: unknown): string[] {
  try {
    parseConfig(JSON.stringify(file), 'site.yaml');
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ message }) => message);
  }
}

/** As an error names a place in the file. */
function at(path: readonly Step[]): string {
  return path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`))
    .join('')
    .slice(1);
}

/** As the table names it. */
function named(path: readonly Step[]): string {
  return at(path).replaceAll('[0]', '[]');
}

/** The text below a heading, up to the next one of its level or a higher one. */
function section(markdown: string, heading: string): string {
  const lines = markdown.split('\n');
  const start = lines.findIndex((line) => line.replace(/^#+ /, '') === heading);
  const level = /^#+/.exec(lines[start] ?? '')?.[0].length;
  if (level === undefined) throw new Error(`no heading "${heading}"`);
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => (/^#+(?= )/.exec(line)?.[0].length ?? Number.POSITIVE_INFINITY) <= level);
  return rest.slice(0, end === -1 ? undefined : end).join('\n');
}

/** The cells of each row of its first table, without those of the head. */
function tableRows(markdown: string): string[][] {
  const lines = markdown.split('\n');
  const start = lines.findIndex((line) => /^\|[-:|]+\|$/.test(line)) + 1;
  const length = lines.slice(start).findIndex((line) => !line.startsWith('|'));
  return lines.slice(start, length === -1 ? undefined : start + length).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function codeIn(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
}

function codeBlocks(markdown: string): string[] {
  return [...markdown.matchAll(/^```\w*\n([\s\S]*?)^```$/gm)].map(([, code = '']) => code);
}

function withoutCode(markdown: string): string {
  return markdown.replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');
}

/** Targets of links and pictures, but for those on other hosts. */
function linksIn(markdown: string): string[] {
  return [...withoutCode(markdown).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^[a-z]+:/.test(link));
}

/** The anchors that GitHub gives to headings: lower case, dashes for spaces, no punctuation. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...withoutCode(markdown).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(/\s/g, '-'),
    ),
  );
}
