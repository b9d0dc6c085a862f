import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Address } from '../config/address.ts';
import { type AdminClient, createAdminClient, type FileUpdates } from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import type { PrintedFile } from '../envoy-config/print.ts';
import { FILE_KINDS, statPrefixOf } from '../envoy-config/watched-files.ts';
import { replaceFile, withLock } from './directory.ts';
import type { Plan, PlannedFiles, Step } from './plan.ts';

/** What became of a config's files. */
export type Published =
  | {
      readonly kind: 'taken';
      readonly changed: number;
      /** Fields that Envoy does not know, and goes on without. */
      readonly unknownFields: number;
      /** Clusters and listeners that are not in use yet, for want of a name's address or a certificate. */
      readonly warming: number;
    }
  /** They are there, and an Envoy that starts reads them: now there is none. */
  | { readonly kind: 'early'; readonly why: string }
  /** They are there, but Envoy did not say that it has them. */
  | { readonly kind: 'written'; readonly why: string }
  /** The files from before are there again. */
  | { readonly kind: 'refused'; readonly why: string };

export interface PublishOptions {
  readonly directory: string;
  /** Called when nobody else writes there. */
  readonly plan: () => Promise<PlannedFiles>;
  /** Of the Envoy that runs. */
  readonly admin: Address;
  /** As it was last published; null: not known. */
  readonly bootstrap: Plan['bootstrap'] | null;
  /**
   * Around what replaces clusters: Envoy's answer to the status URI goes by their gauges, and those of a cluster that is to
   * take another's place say that no server is up.
   */
  readonly pauseSteady: () => Promise<void>;
  readonly resumeSteady: () => Promise<void>;
  /** Before anything is written: keys of the bootstrap, which Envoy reads at its start alone, that are other ones now. */
  readonly onRestartNeeded: (keys: readonly string[]) => void;
  /** Nobody waits for Envoy any more: what is left is written at once. */
  readonly signal: AbortSignal;
}

/** Of one request to Envoy's admin interface. */
const TIMEOUT_MS = 1_000;

/** Envoy's main thread may be busy for so long; one that says nothing after that hangs. */
const MAX_SILENT_MS = 5_000;

/** Envoy takes what it watches within milliseconds, with hundreds of applications within a second or two. */
const MAX_TAKING_MS = 10_000;

/** A new cluster is in use when its servers have been checked, or their names looked up; no other waits longer for those. */
const MAX_WARMING_MS = 5_000;

/** Between two looks, each of which Envoy has to answer: mostly it is done at once. */
function* pausesMs(): Generator<number, number> {
  for (let pauseMs = 25; ; pauseMs = Math.min(250, pauseMs * 1.5)) yield pauseMs;
}

/**
 * Puts the files of a config where Envoy watches them, each step when Envoy has taken the one before. Of several sidecars that
 * publish at once each finds what the one before it has left.
 * @throws ConfigError where the overlay does not fit
 * @throws Error where the directory can't be read or written; what was there is there again, then
 */
export async function publish(
  options: PublishOptions,
): Promise<{ readonly published: Published; readonly bootstrap: Plan['bootstrap'] }> {
  const { directory, plan, admin, bootstrap, pauseSteady, resumeSteady, onRestartNeeded, signal } = options;
  const publishLocked = async () => {
    const planned = await plan();
    const restart = bootstrap === null ? [] : differing(bootstrap, planned.plan.bootstrap);
    if (restart.length > 0) onRestartNeeded(restart);
    const envoy = new WatchingEnvoy(createAdminClient(admin, TIMEOUT_MS), signal);
    const replaces = planned.plan.replaced.length > 0;
    try {
      if (replaces) await pauseSteady();
      const published = await publishPlan(envoy, directory, planned);
      const isSeen = published.kind === 'taken' || published.kind === 'refused';
      if (replaces && isSeen) await envoy.warm();
      return { published, bootstrap: planned.plan.bootstrap };
    } finally {
      if (replaces) await resumeSteady();
      envoy.close();
    }
  };
  return await withLock(directory, publishLocked, signal);
}

type Trouble = Exclude<Published, { kind: 'taken' }>;

async function publishPlan(envoy: WatchingEnvoy, directory: string, { plan, disk }: PlannedFiles): Promise<Published> {
  const written = new Set<string>();
  const secrets = plan.files.filter(({ kind }) => kind === 'secret');
  const first = await envoy.look();
  let seen = first;
  try {
    for (const step of [...plan.steps, ...(hasSaid(first) ? missed(plan, first) : [])]) {
      for (const { name, text } of step.files) {
        written.add(name);
        await replaceFile(`${directory}/${name}`, text);
      }
      // Without an Envoy that says what it has there is nothing to wait for.
      if (hasSaid(seen)) seen = await envoy.take(step, secrets, seen);
      if (isRefusal(seen)) break;
    }
  } catch (error) {
    await putBack(directory, written, disk);
    throw error;
  }
  if (isRefusal(seen)) await putBack(directory, written, disk);
  else for (const name of plan.stale) await rm(`${directory}/${name}`, { force: true });
  if (!hasSaid(seen)) return seen;
  const unknownFields = hasSaid(first) ? Math.max(0, seen.unknownFields - first.unknownFields) : 0;
  return { kind: 'taken', changed: written.size, unknownFields, warming: seen.warming };
}

/** What is there as it is to be, and Envoy has not: it did not take it when it came, or has not seen it come. */
function missed({ files, steps }: Plan, { versions }: FileUpdates): Step[] {
  const written = new Set(steps.flatMap((step) => step.files.map(({ name }) => name)));
  const others = files.filter((file) => {
    const version = versions.get(statPrefixOf(file));
    return version !== undefined && version !== file.version && !written.has(file.name);
  });
  const ofKinds = FILE_KINDS.map((kind) => ({ kind, files: others.filter((file) => file.kind === kind) }));
  // Of another cluster Envoy has another file of servers.
  const isElsewhere = others.some(({ kind }) => kind === 'clusters');
  return ofKinds
    .filter(({ files: of }) => of.length > 0)
    .map(({ kind, files: of }) => ({ kind, files: of, awaited: kind === 'endpoints' && isElsewhere ? [] : of }));
}

/** The routes first, for Envoy takes them in this order. What can't be put back does not keep the rest from it. */
async function putBack(directory: string, written: ReadonlySet<string>, disk: PlannedFiles['disk']): Promise<void> {
  for (const name of [...written].toReversed()) {
    const before = disk.get(name);
    const path = `${directory}/${name}`;
    await (before === undefined ? rm(path, { force: true }) : replaceFile(path, before)).catch(() => {});
  }
}

/** The Envoy that is to have the files. */
class WatchingEnvoy {
  readonly #client: AdminClient;
  readonly #signal: AbortSignal;

  constructor(client: AdminClient, signal: AbortSignal) {
    this.#client = client;
    this.#signal = signal;
  }

  close(): void {
    this.#client.close();
  }

  /** What it has of its files; trouble where it does not say. */
  async look(): Promise<FileUpdates | Trouble> {
    const endsAtMs = performance.now() + MAX_SILENT_MS;
    for (;;) {
      if (this.#signal.aborted) return { kind: 'written', why: 'this sidecar stops' };
      try {
        return await this.#client.readFileUpdates();
      } catch (error) {
        if (!(error instanceof AdminError)) throw error;
        if (error.code === 'ADMIN_UNREACHABLE') return { kind: 'early', why: error.message };
        // One that hangs may go on.
        const isOver = error.code !== 'ADMIN_TIMEOUT' || performance.now() > endsAtMs;
        if (isOver) return { kind: 'written', why: error.message };
      }
    }
  }

  /** Waits until what it has is in use. */
  async warm(): Promise<void> {
    const startedAtMs = performance.now();
    for (const pauses = pausesMs(); ; ) {
      const now = await this.look();
      if (!hasSaid(now) || now.warming === 0 || performance.now() - startedAtMs > MAX_WARMING_MS) return;
      await sleep(pauses.next().value);
    }
  }

  /**
   * Waits until it has what a step has written.
   * @param secrets of which it reads a new one with the cluster or listener that names it
   * @param before what it had then
   * @returns what it has now
   */
  async take(
    { kind, awaited }: Step,
    secrets: readonly PrintedFile[],
    before: FileUpdates,
  ): Promise<FileUpdates | Trouble> {
    const watched = awaited.filter((file) => before.versions.has(statPrefixOf(file)));
    if ((kind === 'clusters' || kind === 'listeners') && watched.length === 0) {
      return {
        kind: 'written',
        why: 'it does not watch it: start it with the bootstrap that "site-persistence envoy" prints, and again where the directory was made anew',
      };
    }
    const startedAtMs = performance.now();
    for (const pauses = pausesMs(); ; ) {
      const now = await this.look();
      if (!hasSaid(now)) return now;
      const tookMs = performance.now() - startedAtMs;
      const refused = [...watched, ...secrets].find((file) => refusalsOf(file, now) > refusalsOf(file, before));
      const missing = watched.find((file) => now.versions.get(statPrefixOf(file)) !== file.version);
      if (refused !== undefined) return { kind: 'refused', why: await this.#whyRefused(refused) };
      if (missing === undefined && (now.warming === 0 || tookMs > MAX_WARMING_MS)) return now;
      if (missing !== undefined && tookMs > MAX_TAKING_MS) {
        return { kind: 'refused', why: `${missing.name}: not taken within ${MAX_TAKING_MS / 1_000} s` };
      }
      await sleep(pauses.next().value);
    }
  }

  /** Only of listeners does its admin interface say it. */
  async #whyRefused({ name, kind, text }: PrintedFile): Promise<string> {
    const errors = kind === 'listeners' ? await this.#client.listenerErrors().catch(() => []) : [];
    if (errors.length > 0) return `${name}: ${errors.join('; ')}`;
    const certificates =
      kind === 'secret' ? [...text.matchAll(/\bfilename: "?([^\s"},]+)/g)].map(([, file]) => file) : [];
    const of = certificates.length > 0 ? `, which names ${certificates.join(' and ')}` : '';
    return `${name}${of}: it says why in its own log, as "Filesystem config update"`;
  }
}

function hasSaid(looked: FileUpdates | Trouble): looked is FileUpdates {
  return !('kind' in looked);
}

function isRefusal(looked: FileUpdates | Trouble): boolean {
  return !hasSaid(looked) && looked.kind === 'refused';
}

function refusalsOf(file: PrintedFile, updates: FileUpdates): number {
  return updates.refusals.get(statPrefixOf(file)) ?? 0;
}

function differing(before: Plan['bootstrap'], after: Plan['bootstrap']): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => before[key] !== after[key]);
}
