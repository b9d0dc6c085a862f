import { readFileSync } from 'node:fs';

/** A file of the status page. */
export interface PageFile {
  readonly type: string;
  readonly body: Buffer;
}

const PAGE_DIR = new URL('../../page/', import.meta.url);

const FILES = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/status.css', 'status.css', 'text/css; charset=utf-8'],
  ['/status.js', 'status.js', 'text/javascript; charset=utf-8'],
  ['/graph.js', 'graph.js', 'text/javascript; charset=utf-8'],
  ['/icon.svg', 'icon.svg', 'image/svg+xml'],
] as const;

/** The status page by path, read once: a page and its script are then of one version. */
export function readPageFiles(): ReadonlyMap<string, PageFile> {
  return new Map(FILES.map(([path, name, type]) => [path, { type, body: readFileSync(new URL(name, PAGE_DIR)) }]));
}
