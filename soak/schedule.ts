/** What is done to the sites while they serve, and the letter that marks it in the plots. */
export const CHURN = {
  pool: { letter: 'P', what: 'a pool killed, and back once both sites have seen it down', mayLose: true },
  server: { letter: 'S', what: 'a server killed and started again at once', mayLose: true },
  envoy: { letter: 'E', what: 'an Envoy killed, and back once the other site has seen it down', mayLose: true },
  'sidecar killed': { letter: 'K', what: 'a sidecar killed and started again', mayLose: false },
  'sidecar stopped': { letter: 'T', what: 'a sidecar stopped and started again', mayLose: false },
  certificates: { letter: 'C', what: "a site's certificate replaced: all sites forward over TLS", mayLose: false },
  reload: { letter: 'R', what: 'the config file changed, then broken, both reloaded', mayLose: false },
} as const satisfies Record<string, { letter: string; what: string; mayLose: boolean }>;

export type ChurnKind = keyof typeof CHURN;

export interface ChurnEvent {
  /** After the start of the load; later where the event before it is not over by then. */
  readonly atMs: number;
  readonly kind: ChurnKind;
  readonly site: 'east' | 'west';
}

const KINDS: readonly ChurnKind[] = [
  'pool',
  'server',
  'envoy',
  'sidecar killed',
  'sidecar stopped',
  'certificates',
  'reload',
];
const FIRST_MS = 4_000;
const EVERY_MS = 7_000;
/** Left in peace at the end, so that the last event is over. */
const LAST_MS = 8_000;

/** Each kind once in each round, in an order and at sites that the seed decides: two runs do the same. */
export function scheduleChurn({ minutes, seed }: { readonly minutes: number; readonly seed: number }): ChurnEvent[] {
  const random = createRandom(seed);
  const count = Math.floor((minutes * 60_000 - FIRST_MS - LAST_MS) / EVERY_MS) + 1;
  const events: ChurnEvent[] = [];
  let round: ChurnKind[] = [];
  for (let index = 0; index < count; index++) {
    if (round.length === 0) round = [...KINDS];
    const [kind = 'reload'] = round.splice(Math.floor(random() * round.length), 1);
    events.push({ atMs: FIRST_MS + index * EVERY_MS, kind, site: random() < 0.5 ? 'east' : 'west' });
  }
  return events;
}

/** mulberry32: small, and the same everywhere. */
export function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
