import { expect, test } from 'vitest';
import { type VerdictOptions, verdictOf } from '../../../src/ops/verdict.ts';

const UP = 'up';
const DOWN = 'down';
const HELD = 'held';
type Pool = typeof UP | typeof DOWN | typeof HELD;

/** Site east, with west and north as the other sites. */
function verdict(pools: readonly Pool[], more: Partial<VerdictOptions> = {}): string {
  const views = ['east', 'west', 'north'].map((site, index) => {
    const held = pools[index] === HELD ? { reason: 'rehearsal' } : null;
    return { site, up: pools[index] === UP, held };
  });
  const [local, ...others] = views.slice(0, pools.length);
  const usual = {
    site: 'east',
    isKnown: true,
    draining: false,
    drained: false,
    evicting: false,
    ownRequests: 214,
    onOwnerDown: 'adopt',
  } as const;
  const { level, text } = verdictOf({ ...usual, local, others, ...more });
  return `${level}: ${text}`;
}

test.each<[string, readonly Pool[], Partial<VerdictOptions>]>([
  ['ok: East serves its clients.', [UP, UP, UP], {}],
  ['warn: East serves its clients; west is down.', [UP, DOWN, UP], {}],
  ['warn: East serves its clients; west and north are down.', [UP, DOWN, DOWN], {}],
  ["warn: East's pool is down: west serves its clients.", [DOWN, UP, UP], {}],
  ["warn: East's pool is down: north serves its clients.", [DOWN, DOWN, UP], {}],
  ['down: Nobody serves: all pools down, clients get 503.', [DOWN, DOWN, DOWN], {}],
  ['down: Nobody serves: all pools down, clients get 503.', [DOWN, DOWN], { draining: true }],
  [
    "warn: Draining: new clients go elsewhere, 214 requests of east's sessions in the last minute.",
    [UP, UP],
    { draining: true },
  ],
  [
    "warn: Draining: new clients go elsewhere, 1 request of east's sessions in the last minute.",
    [UP, UP],
    { draining: true, ownRequests: 1 },
  ],
  ["warn: East's pool is down: west serves its clients.", [DOWN, UP], { draining: true }],
  ['warn: East is drained: nobody comes any more.', [UP, UP], { draining: true, drained: true }],
  ['warn: East drains, and its sessions move: west serves its clients.', [UP, UP], { draining: true, evicting: true }],
  [
    'down: East drains, and no other site is up: new clients are sent nowhere.',
    [UP, DOWN],
    { draining: true, evicting: true },
  ],
  ['down: East drains, and no other site is up: new clients are sent nowhere.', [UP, DOWN], { draining: true }],
  [
    "down: East's pool is down: west serves new clients, sessions of east get 503 (on_owner_down: refuse).",
    [DOWN, UP],
    { onOwnerDown: 'refuse' },
  ],
  ['warn: East serves its clients; west is held: rehearsal.', [UP, HELD, UP], {}],
  ['warn: East serves its clients; north is down; west is held: rehearsal.', [UP, HELD, DOWN], {}],
  ["warn: East's pool is down: north serves its clients; west is held: rehearsal.", [DOWN, HELD, UP], {}],
  ["down: No site is up: east's pool is down, and west is held (rehearsal): release west.", [DOWN, HELD, DOWN], {}],
  [
    'down: East drains, and no other site is up (west is held: rehearsal): new clients are sent nowhere.',
    [UP, HELD],
    { draining: true },
  ],
  [
    "warn: Draining: new clients go elsewhere, 214 requests of east's sessions in the last minute; west is held: rehearsal.",
    [UP, HELD, UP],
    { draining: true },
  ],
  ['down: Health is not known: Envoy decides by its own health checks.', [UP, UP], { isKnown: false }],
  ['down: Health is not known: Envoy decides by its own health checks.', [], { isKnown: false, draining: true }],
])('%s', (expected, pools, more) => {
  expect(verdict(pools, more)).toBe(expected);
});
