import { type Config, DEFAULT_APPLICATION, namesOf } from '../config/config.ts';
import { drainInFileKey, drainKey, drainNoteKey, evictKey } from '../contract.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { RuntimePart, RuntimeValues } from './envoy-runtime.ts';
import { describeEnd, endSeconds, isSet, type Order, Orders } from './orders.ts';

export interface DrainOptions {
  /** In milliseconds; null: until {@link Drain.end}; see {@link parseOrderMs}. */
  readonly forMs: number | null;
  /** The sessions that live here move to other sites as well. */
  readonly evict: boolean;
  /** Empty: none was given. */
  readonly reason: string;
}

/** One application's drain. */
export interface RunningDrain extends Order {
  readonly evict: boolean;
}

/**
 * Which applications drain: their status URI tells the world to go elsewhere, while the other sites still send the
 * sessions that live here. What the config says of `drain` comes on top, and lasts as long as it stands there.
 */
export class Drain implements RuntimePart {
  readonly #config: () => Config;
  readonly #changes: ChangeLog;
  readonly #orders: Orders<RunningDrain>;
  /** Those for which Envoy knows what the file says. */
  readonly #fileIsSaid = new Set<string>();

  /**
   * @param config the one in force
   * @param onChange called when a drain has begun or ended
   */
  constructor(config: () => Config, changes: ChangeLog, onChange: () => void = () => {}) {
    this.#config = config;
    this.#changes = changes;
    const kind = {
      endKey: drainKey,
      noteKey: drainNoteKey,
      more: evictValue,
      read: readEvict,
      begun: this.#sayBegun.bind(this),
      ended: this.#sayEnded.bind(this),
      left: this.#sayLeft.bind(this),
    };
    this.#orders = new Orders(kind, onChange);
  }

  /** That of an application; null while none runs. See `drain` of the config for the other reason to drain. */
  of(application: string): RunningDrain | null {
    return this.#orders.of(application);
  }

  /**
   * Drains from now on; a second call changes the end, the reason and whether it evicts.
   * @param applications by name; null: all, and those that a reload adds
   */
  start(applications: readonly string[] | null, { forMs, evict, reason }: DrainOptions): void {
    const nowMs = Date.now();
    const untilMs = forMs === null ? null : nowMs + forMs;
    const make = (sinceMs: number) => ({ sinceMs, untilMs, evict, reason });
    this.#orders.start(applications ?? namesOf(this.#config()), {
      nowMs,
      untilMs,
      make,
      isOfAll: applications === null,
    });
  }

  /** Another config is in force: what it no longer has does not drain, and a drain of all is one of what it adds. */
  follow(): void {
    this.#fileIsSaid.clear();
    this.#orders.follow(namesOf(this.#config()));
  }

  /** Ends the drains of these applications, null: of all; nothing happens where there is none. */
  end(applications: readonly string[] | null, why: string): void {
    this.#orders.end(applications, why);
  }

  close(): void {
    this.#orders.close();
  }

  keys(): readonly string[] {
    const names = namesOf(this.#config());
    return [...this.#orders.keys(names), ...names.map(drainInFileKey)];
  }

  plan(values: RuntimeValues): RuntimeValues {
    const toWrite = this.#orders.plan(namesOf(this.#config()), values);
    for (const { name, drain } of this.#config().applications) this.#planFile(name, drain, values, toWrite);
    return toWrite;
  }

  settled(): void {
    this.#orders.settled();
    for (const name of namesOf(this.#config())) this.#fileIsSaid.add(name);
  }

  refused(): boolean {
    this.#orders.refused();
    return false;
  }

  /** Written where Envoy has none, as after its restart, and once for each config: of two sidecars the one that read its file last. */
  #planFile(application: string, drain: boolean, values: RuntimeValues, toWrite: Map<string, string>): void {
    const key = drainInFileKey(application);
    const value = values.get(key);
    const mayWrite = value === undefined ? drain : !this.#fileIsSaid.has(application);
    if (mayWrite && isSet(value) !== drain) toWrite.set(key, drain ? '100' : '0');
  }

  #sayBegun(application: string, drain: RunningDrain, isAlone: boolean): void {
    const reason = drain.reason === '' ? '' : ` (${drain.reason})`;
    const moves = drain.evict ? ', and its sessions move to other sites' : '';
    const alone = isAlone ? '; only this sidecar drains, for Envoy does not let its runtime be written' : '';
    const message = `${this.#subject(application)} is draining${reason}, ${describeEnd(drain, 'undrain')}: its status URI says DOWN to the world${moves}${alone}`;
    this.#changes.warn(message, { application });
  }

  #sayEnded(application: string, why: string): void {
    const isInFile = this.#config().applications.some(({ name, drain }) => drain && name === application);
    const message = isInFile
      ? `${this.#subject(application)} still drains, as the config file says, though the drain ended: ${why}`
      : `${this.#subject(application)} is no longer draining: ${why}`;
    this.#changes.info(message, { application });
  }

  #sayLeft(application: string, isShared: boolean): void {
    const message = isShared
      ? `${this.#subject(application)} goes on draining: this sidecar stops, and Envoy knows of the drain`
      : `${this.#subject(application)} stops while draining, and the drain ends with this sidecar: Envoy could not store it`;
    this.#changes.warn(message, { application });
  }

  #subject(application: string): string {
    const { site: name, applications } = this.#config();
    const site = `site ${name}`;
    return application === DEFAULT_APPLICATION && applications.length === 1
      ? site
      : `application ${application} of ${site}`;
  }
}

function evictValue(application: string, drain: RunningDrain | null): RuntimeValues {
  return new Map([[evictKey(application), drain?.evict === true ? String(endSeconds(drain)) : '0']]);
}

function readEvict(order: Order, application: string, values: RuntimeValues): RunningDrain {
  return { ...order, evict: isSet(values.get(evictKey(application))) };
}
