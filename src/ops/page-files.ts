import { readFileSync } from 'node:fs';

/** A file of the status page. */
export interface PageFile {
  readonly type: string;
  readonly body: Buffer;
}

const PAGE_DIR = new URL('../../page/', import.meta.url);

const SCRIPTS = [
  ...['status.js', 'applications.js', 'changes.js', 'counts-table.js', 'decisions.js', 'drain.js', 'elements.js'],
  ...['graph.js', 'links.js', 'pools.js', 'sessions.js', 'timeline.js', 'words.js'],
];

const ICONS = ['icon.svg', 'icon-warn.svg', 'icon-down.svg'];

const FILES = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/status.css', 'status.css', 'text/css; charset=utf-8'],
  ...SCRIPTS.map((name) => [`/${name}`, name, 'text/javascript; charset=utf-8'] as const),
  ...ICONS.map((name) => [`/${name}`, name, 'image/svg+xml'] as const),
] as const;

/** The status page by path, read once: a page and its script are then of one version. */
export function readPageFiles(): ReadonlyMap<string, PageFile> {
  return new Map(FILES.map(([path, name, type]) => [path, { type, body: readFileSync(new URL(name, PAGE_DIR)) }]));
}
