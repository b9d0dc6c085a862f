import { type Config, DEFAULT_APPLICATION } from '../config/config.ts';
import { holdKey, holdNoteKey, openKey } from '../contract.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { RuntimePart, RuntimeValues } from './envoy-runtime.ts';
import { describeEnd, type Order, Orders } from './orders.ts';

export interface HoldOptions {
  /** In milliseconds; null: until {@link Hold.end}; see {@link parseOrderMs}. */
  readonly forMs: number | null;
  readonly reason: string;
}

const NO_SITES: ReadonlySet<string> = new Set();
const CLOSED = '0';
const OPEN = '100';

/**
 * Which other sites this one takes for down, application by application, whatever Envoy sees of them: one that flaps, or in a
 * rehearsal. What they forward to this site is served as ever.
 */
export class Hold implements RuntimePart {
  readonly #config: () => Config;
  readonly #changes: ChangeLog;
  readonly #onChange: () => void;
  readonly #bySite = new Map<string, Orders<Order>>();
  /** By application, for the decision. */
  readonly #held = new Map<string, ReadonlySet<string>>();

  /**
   * @param config the one in force
   * @param onChange called when a hold has begun or ended
   */
  constructor(config: () => Config, changes: ChangeLog, onChange: () => void = () => {}) {
    this.#config = config;
    this.#changes = changes;
    this.#onChange = onChange;
  }

  /** The sites that are held for an application. Called for each request. */
  sitesOf(application: string): ReadonlySet<string> {
    return this.#held.get(application) ?? NO_SITES;
  }

  /** Null while the site is not held for the application. */
  of(application: string, site: string): Order | null {
    return this.#bySite.get(site)?.of(application) ?? null;
  }

  /**
   * Holds a site from now on; a second call changes the end and the reason.
   * @param applications by name; null: all that have the site, and those that a reload adds
   */
  start(site: string, applications: readonly string[] | null, { forMs, reason }: HoldOptions): void {
    const nowMs = Date.now();
    const untilMs = forMs === null ? null : nowMs + forMs;
    const make = (sinceMs: number) => ({ sinceMs, untilMs, reason });
    const names = applications ?? applicationsWith(site, this.#config());
    this.#ordersOf(site).start(names, { nowMs, untilMs, make, isOfAll: applications === null });
  }

  /** Another config is in force: a hold of a site for all applications is one for what it adds. */
  follow(): void {
    for (const site of this.#sites()) this.#ordersOf(site).follow(applicationsWith(site, this.#config()));
  }

  /** Ends the hold of a site for these applications, null: for all; nothing happens where there is none. */
  end(site: string, applications: readonly string[] | null, why: string): void {
    this.#ordersOf(site).end(applications, why);
  }

  close(): void {
    for (const orders of this.#bySite.values()) orders.close();
  }

  keys(): readonly string[] {
    return [...this.#sites()].flatMap((site) => {
      const names = applicationsWith(site, this.#config());
      const orders = this.#ordersOf(site);
      return [...orders.keys(names), ...[...orders.names(names)].map((name) => openKey(name, site))];
    });
  }

  plan(values: RuntimeValues): RuntimeValues {
    const toWrite = new Map<string, string>();
    for (const site of this.#sites()) {
      const names = applicationsWith(site, this.#config());
      const orders = this.#ordersOf(site);
      for (const [key, value] of orders.plan(names, values)) toWrite.set(key, value);
      for (const name of orders.names(names)) {
        const key = openKey(name, site);
        const isOpen = values.get(key) !== CLOSED;
        const isHeld = orders.of(name) !== null;
        if (isOpen === isHeld) toWrite.set(key, isHeld ? CLOSED : OPEN);
      }
    }
    return toWrite;
  }

  settled(): void {
    for (const orders of this.#bySite.values()) orders.settled();
  }

  refused(): boolean {
    for (const site of this.#sites()) this.#ordersOf(site).refused();
    return false;
  }

  /** Those of the config, and those that a reload took out, for as long as Envoy has to be told. */
  #sites(): ReadonlySet<string> {
    const remotePools = this.#config().applications.flatMap((application) => application.remotePools);
    return new Set([...remotePools.map(({ site }) => site), ...this.#bySite.keys()]);
  }

  #ordersOf(site: string): Orders<Order> {
    const known = this.#bySite.get(site);
    if (known !== undefined) return known;
    const orders = new Orders<Order>(
      {
        endKey: (application) => holdKey(application, site),
        noteKey: (application) => holdNoteKey(application, site),
        more: () => NOTHING_MORE,
        read: (order) => order,
        begun: (application, order, isAlone) => this.#begun(application, site, order, isAlone),
        ended: (application, why) => this.#ended(application, site, why),
        left: (application, isShared) => this.#left(application, site, isShared),
      },
      this.#onChange,
    );
    this.#bySite.set(site, orders);
    return orders;
  }

  #begun(application: string, site: string, order: Order, isAlone: boolean): void {
    this.#held.set(application, new Set([...this.sitesOf(application), site]));
    const alone = isAlone ? '; only this sidecar holds it, for Envoy does not let its runtime be written' : '';
    const reason = order.reason === '' ? '' : ` (${order.reason})`;
    const message = `${site} is held${this.#forWhich(application)}${reason}, ${describeEnd(order, 'release')}: it counts as down here${alone}`;
    this.#changes.warn(message, { application, site });
  }

  #ended(application: string, site: string, why: string): void {
    this.#held.set(application, new Set([...this.sitesOf(application)].filter((other) => other !== site)));
    this.#changes.info(`${site} is no longer held${this.#forWhich(application)}: ${why}`, { application, site });
  }

  #left(application: string, site: string, isShared: boolean): void {
    const message = isShared
      ? `${site} stays held${this.#forWhich(application)}: this sidecar stops, and Envoy knows of the hold`
      : `the hold of ${site}${this.#forWhich(application)} ends with this sidecar: Envoy could not store it`;
    this.#changes.warn(message, { application, site });
  }

  #forWhich(application: string): string {
    const { applications } = this.#config();
    return application === DEFAULT_APPLICATION && applications.length === 1 ? '' : ` for ${application}`;
  }
}

const NOTHING_MORE: RuntimeValues = new Map();

/** The applications that a site serves as well, by name. */
export function applicationsWith(site: string, { applications }: Pick<Config, 'applications'>): string[] {
  return applications
    .filter(({ remotePools }) => remotePools.some((pool) => pool.site === site))
    .map(({ name }) => name);
}
