import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';

/**
 * The rooms of `src/`, from the top: a room imports from those below it, and never from one beside or above it. The map in
 * CONTRIBUTING.md has the same floors.
 */
const FLOORS = [
  ['main'],
  ['cli'],
  ['runtime'],
  ['ops'],
  ['doctor'],
  ['envoy-files', 'ext-proc', 'health'],
  ['envoy-config', 'envoy-runtime', 'metrics'],
  ['contract', 'decision', 'envoy-admin', 'import', 'listener'],
  ['config', 'log'],
];

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SRC = join(ROOT, 'src');
const IMPORT = /(?:from|import\()\s*'(\.[^']+\.ts)'/g;

interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly file: string;
}

const floorOf = (room: string) => FLOORS.findIndex((rooms) => rooms.includes(room));
/** The folder under `src/`, or the file that stands there by itself. */
const roomOf = (path: string) => path.split('/')[0]?.replace(/\.ts$/, '') ?? '';

let arrows: readonly Arrow[];
beforeAll(async () => {
  const files = (await readdir(SRC, { recursive: true })).filter((file) => file.endsWith('.ts'));
  const found = files.map(async (file) => {
    const text = await readFile(join(SRC, file), 'utf8');
    return [...text.matchAll(IMPORT)].map(([, target = '']) => ({
      from: roomOf(file),
      to: roomOf(normalize(join(dirname(file), target))),
      file,
    }));
  });
  arrows = (await Promise.all(found)).flat().filter(({ from, to }) => from !== to);
});

test('every room has its floor', () => {
  const rooms = new Set(arrows.flatMap(({ from, to }) => [from, to]));
  expect([...rooms].filter((room) => floorOf(room) < 0)).toEqual([]);
});

test('imports lead to a lower floor', () => {
  const wrong = arrows.filter(({ from, to }) => floorOf(to) <= floorOf(from));
  expect(wrong.map(({ from, to, file }) => `${from} -> ${to} in ${file}`)).toEqual([]);
});

test("CONTRIBUTING.md's map has the same floors", async () => {
  const text = await readFile(join(ROOT, 'CONTRIBUTING.md'), 'utf8');
  const map = /```\n(main\n[\s\S]*?)```/.exec(text)?.[1] ?? '';
  const floors = map
    .trim()
    .split('\n')
    .map((line) => [...line.matchAll(/[a-z-]+/g)].map(([room]) => room));
  expect(floors).toEqual(FLOORS);
});
