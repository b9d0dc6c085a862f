// The pools of an application, a card each.

import { column, createList, element, setText } from './elements.js';
import { describeHold } from './words.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport['pools'][number]} Pool */

/** Of a large pool not every server that is up is shown; each that is down is. */
const MAX_UP_HOSTS_SHOWN = 50;

/**
 * @param {Element} parent
 * @returns {(pools: readonly Pool[], isHealthKnown: boolean) => void} shows these pools, of which the first is the local one
 */
export function createPools(parent) {
  /** @typedef {{pool: Pool, isHealthKnown: boolean}} Shown */
  const show = createList(
    parent,
    // What is counted down is not told anew.
    (/** @type {Shown} */ { pool, ...shown }) => JSON.stringify({ ...shown, pool: { ...pool, hold_up_left_ms: null } }),
    ({ pool, isHealthKnown }, index) => createCard(pool, index, isHealthKnown),
  );
  return (pools, isHealthKnown) => show(pools.map((pool) => ({ pool, isHealthKnown })));
}

/**
 * @param {Pool} pool
 * @param {number} index
 * @param {boolean} isHealthKnown
 */
function createCard(pool, index, isHealthKnown) {
  const [mark, word, tone] = isHealthKnown ? stateOfPool(pool) : ['?', 'unknown', 'warn'];
  const card = element('article', `card ${tone}${isHealthKnown ? '' : ' stale'}`);
  const title = element('h3');
  title.append(nameOf(pool), index === 0 ? ' (this site)' : '');
  title.id = `pool-${pool.application}-${index}`;
  card.setAttribute('aria-labelledby', title.id);
  const head = element('div', 'card-head');
  const state = head.appendChild(element('span', `state ${tone}`, `${mark} ${word}`));
  state.before(title);
  if (pool.hold_up_left_ms !== null) state.append(' ', createCountdown(pool.hold_up_left_ms));
  card.append(head, element('p', '', `pool ${pool.cluster}: ${describeServers(pool)}`));
  if (pool.held !== null) card.append(element('p', 'held', describeHold(pool.held)));
  if (pool.hosts.length > 0) card.append(...createHosts(pool));
  return card;
}

/** @param {Pool} pool */
function stateOfPool({ up, held, held_up: isHeldUp }) {
  if (up) return ['●', 'up', 'good'];
  if (held !== null) return ['■', 'held', 'warn'];
  return isHeldUp ? ['■', 'held back:', 'warn'] : ['▲', 'down', 'bad'];
}

/** @param {number} leftMs */
function createCountdown(leftMs) {
  const countdown = element('span', 'countdown');
  countdown.dataset.endMs = String(performance.now() + leftMs);
  showLeft(countdown);
  return countdown;
}

/** Called each second. */
export function showCountdowns() {
  for (const countdown of document.querySelectorAll('.countdown')) {
    if (countdown instanceof HTMLElement) showLeft(countdown);
  }
}

/** @param {HTMLElement} countdown */
function showLeft(countdown) {
  const leftMs = Number(countdown.dataset.endMs) - performance.now();
  setText(countdown, `up in ${Math.max(0, Math.ceil(leftMs / 1_000))} s`);
}

/**
 * The site, with a link to its own status page where that is known.
 * @param {Pool} pool
 */
function nameOf({ site, ops_url: url }) {
  if (url === null) return site;
  const link = document.createElement('a');
  link.href = `${url}/`;
  link.textContent = site;
  return link;
}

/** @param {Pool} pool */
function describeServers(pool) {
  if (pool.known_to_envoy === null) return 'not seen yet';
  if (!pool.known_to_envoy) return 'Envoy has no cluster of this name';
  const needed = pool.min_up > 1 ? `, needs ${pool.min_up}` : '';
  const held = pool.held_up ? ', held back by hold_up' : '';
  const draining = pool.servers_draining > 0 ? `, ${pool.servers_draining} draining` : '';
  return `${pool.servers_up} of ${pool.servers_total} servers up${draining}${needed}${held}`;
}

/** @param {Pool['hosts'][number]} host */
function stateOf({ up, draining, why }) {
  if (up) return element('td', 'good', '● up');
  return draining ? element('td', 'warn', `▼ ${why}`) : element('td', 'bad', `▲ down: ${why}`);
}

/** @param {Pool} pool */
function createHosts({ site, hosts }) {
  const down = hosts.filter((host) => !host.up);
  const up = hosts.filter((host) => host.up);
  const table = element('table', 'hosts');
  table.append(element('caption', 'hidden', `Servers of ${site}`));
  const head = table.appendChild(element('thead')).appendChild(element('tr'));
  for (const name of ['Server', 'State']) head.append(column(name));
  const body = table.appendChild(element('tbody'));
  for (const host of [...down, ...up.slice(0, MAX_UP_HOSTS_SHOWN)]) {
    const row = body.appendChild(element('tr'));
    const name = row.appendChild(element('th', '', host.address));
    name.setAttribute('scope', 'row');
    row.append(stateOf(host));
  }
  const unshown = up.length - MAX_UP_HOSTS_SHOWN;
  return unshown > 0 ? [table, element('p', '', `and ${unshown} more that are up`)] : [table];
}
