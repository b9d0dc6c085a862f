import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { z } from 'zod';
import type { Address } from '../../src/config/address.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { describeAdmin } from '../../src/envoy-admin/admin-client.ts';
import { FakeAdmin } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';

export const EAST_COOKIE = 'KVAAVROI';
export const WEST_COOKIE = 'DDVHSLLQ';

/** What goes into a config file. */
export type SiteFile = Readonly<Record<string, unknown>>;

/** Polls quickly, and waits long enough for an answer that a busy machine gives no false alarm. */
export const QUICK_HEALTH = { poll_interval: '20ms', stale_after: '4s' };

/** The config file of site east with west as the other site, listening on free ports. */
export async function eastFile(admin: FakeAdmin, changes: SiteFile = {}): Promise<SiteFile> {
  const [listen, ops] = await freePorts(2);
  return {
    site: 'east',
    listen: `127.0.0.1:${listen}`,
    ops_listen: `127.0.0.1:${ops}`,
    health: QUICK_HEALTH,
    local_pool: { cluster: 'local_pool', cookie: EAST_COOKIE },
    remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: { name: WEST_COOKIE, path: '/app' } }],
    envoy: { admin: describeAdmin(admin.address) },
    ...changes,
  };
}

/** What makes {@link eastFile} one with so many applications: `app-1` and so on, with the other sites west and north. */
export function manyApplications(count: number): SiteFile {
  const applications = Array.from({ length: count }, (_, index) => {
    const name = `app-${index + 1}`;
    const other = (site: string) => ({ site, cookie: `${site.toUpperCase()}-${name}` });
    return {
      name,
      hosts: [`${name}.example.com`],
      local_pool: { cookie: `EAST-${name}` },
      remote_pools: [other('west'), other('north')],
    };
  });
  // Every poll of a fake admin interface makes the health of every pool.
  const health = { poll_interval: '250ms', stale_after: '10s' };
  return { local_pool: undefined, remote_pools: undefined, applications, health };
}

/** Makes the pools of {@link manyApplications}, which are up. */
export function setPoolsOfMany(admin: FakeAdmin, count: number): void {
  for (let index = 1; index <= count; index++) {
    admin.setPool(`app-${index}_local`, ['up', 'up']);
    for (const site of ['west', 'north']) admin.setPool(`app-${index}_${site}`, ['up']);
  }
}

export function configOf(file: SiteFile): Config {
  return parseConfig(stringify(file), 'east.yaml');
}

/** Takes what is to be done when the running test has ended. A concurrent test must give its own. */
export type After = (action: () => Promise<void> | void) => void;

/** Starts a fake admin interface for the running test. */
export async function startAdmin(address?: Address, after: After = onTestFinished): Promise<FakeAdmin> {
  const admin = await FakeAdmin.start(address);
  after(() => admin.close());
  return admin;
}

/** A directory for the running test. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Writes a config file for the running test; a text as it is. @returns its path */
export async function writeSiteFile(content: SiteFile | string): Promise<string> {
  const path = join(await temporaryDirectory(), 'site.yaml');
  await writeFile(path, typeof content === 'string' ? content : stringify(content));
  return path;
}

const logLine = z.object({ level: z.int(), msg: z.string() }).loose();

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Reads a line of the JSON log. @throws where it is none */
export function parseLogLine(line: string): LogLine {
  const { level, msg, ...fields } = logLine.parse(JSON.parse(line));
  return { level: pino.levels.labels[level] ?? String(level), message: msg, fields };
}

/** A logger that keeps what is logged. */
export class TestLog {
  readonly lines: LogLine[] = [];
  readonly logger = pino({ level: 'debug', base: null }, { write: (line: string) => this.#keep(line) });

  /** The lines whose message matches, as `level message`. */
  matching(pattern: RegExp): string[] {
    return this.lines.filter((line) => pattern.test(line.message)).map((line) => `${line.level} ${line.message}`);
  }

  #keep(line: string): void {
    this.lines.push(parseLogLine(line));
  }
}
