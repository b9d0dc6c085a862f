// Shows what the sidecar says of its site, live. Every text goes in as text, never as HTML.

import { createGraph, createKey } from './graph.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport} State */
/** @typedef {State['pools'][number]} Pool */
/** @typedef {keyof State['decisions']} Kind */
/** @typedef {import('../src/ops/decision-rates.ts').RateSample} Sample */
/** @typedef {Sample & Pick<State, 'health_age_ms' | 'decisions'>} Tick */

/** A tick comes each second. */
const SILENCE_MS = 5_000;
const RETRY_MS = 1_000;
const SAY_DELAY_MS = 100;
const MAX_SAMPLES = 120;
/** Of a large pool not every server that is up is shown; each that is down is. */
const MAX_UP_HOSTS_SHOWN = 50;

/** @type {Readonly<Record<Kind, string>>} */
const MEANINGS = {
  local: 'served at this site',
  forward: 'sent to the site that owns the session',
  failover: 'sent to another site: the local pool is down',
  adopt: "another site's session, taken over here",
  refuse: 'not served: 503',
  unknown: 'no opinion: health is unknown',
  status: 'the status URI, answered here',
};
const KINDS = /** @type {Kind[]} */ (Object.keys(MEANINGS));

const drawGraph = createGraph(byId('graph'), KINDS);
const rows = createDecisionRows();

/** @type {State | null} */
let state = null;
/** @type {Sample[]} */
let samples = [];
/** @type {string | null} The newest change that was shown; null before the first. */
let newestChange = null;
/** @type {EventSource} */
let source;
let heardAtMs = performance.now();
let isLost = false;
let isWaiting = false;
/** @type {string[]} */
const toSay = [];

connect();
setInterval(() => {
  if (performance.now() - heardAtMs > SILENCE_MS) reconnect();
  showDrain();
}, 1_000);

function connect() {
  isWaiting = false;
  heardAtMs = performance.now();
  source = new EventSource('events');
  source.addEventListener('state', (event) => hear(() => showState(JSON.parse(event.data))));
  source.addEventListener('rates', (event) => hear(() => showSamples(JSON.parse(event.data))));
  source.addEventListener('tick', (event) => hear(() => showTick(JSON.parse(event.data))));
  source.onerror = reconnect;
}

// A browser gives a stream up for good when it is refused, so this page tries again by itself.
function reconnect() {
  if (isWaiting) return;
  isWaiting = true;
  source.close();
  if (!isLost) {
    isLost = true;
    byId('lost').textContent =
      `No connection to the sidecar since ${clock(new Date())}: what is below is old. Trying again.`;
    byId('lost').hidden = false;
    document.body.classList.add('is-lost');
  }
  setTimeout(connect, RETRY_MS);
}

/** @param {() => void} show */
function hear(show) {
  heardAtMs = performance.now();
  if (isLost) {
    isLost = false;
    byId('lost').hidden = true;
    document.body.classList.remove('is-lost');
    say('Connected to the sidecar again.');
  }
  show();
}

/** @param {State} next */
function showState(next) {
  state = next;
  byId('site').textContent = next.site;
  document.title = `${next.not_ready === null ? '' : '⚠ '}Site ${next.site}`;
  showFacts(next);
  showDrain();
  showPools(next);
  showDecisions(next.decisions);
  showFastPath(next);
  showChanges(next.changes);
  byId('version').textContent = `site-persistence ${next.version}, running since ${dateAndTime(next.started)}`;
}

/** @param {Sample[]} history */
function showSamples(history) {
  samples = history;
  showGraph();
}

/** @param {Tick} tick */
function showTick(tick) {
  if (state === null) return;
  state = { ...state, health_age_ms: tick.health_age_ms, decisions: tick.decisions };
  samples = [...samples, tick].slice(-MAX_SAMPLES);
  showFacts(state);
  showDecisions(tick.decisions);
  showGraph();
}

/** @param {State} of */
function showFacts({ not_ready: notReady, health_known: isKnown, health_age_ms: ageMs, draining }) {
  const age = ageMs === null ? 'Envoy never answered' : `Envoy last answered ${Math.round(ageMs / 1_000)} s ago`;
  /** @type {[tone: string, text: string][]} */
  const facts = [
    notReady === null ? ['good', '✔ ready'] : ['bad', `✖ not ready: ${notReady}`],
    isKnown ? ['good', '✔ health known'] : ['bad', `? health unknown, Envoy decides (${age})`],
    draining ? ['warn', '▼ draining'] : ['', 'not draining'],
  ];
  const list = byId('facts');
  // Left alone while it says the same, so that it can be read and selected.
  if (list.textContent === facts.map(([, text]) => text).join('')) return;
  list.replaceChildren(...facts.map(([tone, text]) => element('li', tone, text)));
}

function showDrain() {
  const banner = byId('drain');
  banner.hidden = state === null || !state.draining;
  if (state === null || state.draining_since === null) return;
  const since = `Draining since ${dateAndTime(state.draining_since)}`;
  const until =
    state.draining_until === null
      ? 'until undrain'
      : `until ${dateAndTime(state.draining_until)} (${timeLeft(state.draining_until)})`;
  const text = `▼ ${since}, ${until}: no new clients, sessions of this site are still served.`;
  if (banner.textContent !== text) banner.textContent = text;
}

/** @param {State} of */
function showPools({ pools, health_known: isHealthKnown }) {
  byId('pools').replaceChildren(...pools.map((pool, index) => createCard(pool, index, isHealthKnown)));
}

/**
 * @param {Pool} pool
 * @param {number} index the local pool is the first
 * @param {boolean} isHealthKnown
 */
function createCard(pool, index, isHealthKnown) {
  const [mark, word, tone] = !isHealthKnown
    ? ['?', 'unknown', 'warn']
    : pool.up
      ? ['●', 'up', 'good']
      : ['▲', 'down', 'bad'];
  const card = element('article', `card ${tone}`);
  const title = element('h3', '', `${pool.site}${index === 0 ? ' (this site)' : ''}`);
  title.id = `pool-${index}`;
  card.setAttribute('aria-labelledby', title.id);
  const head = element('div', 'card-head');
  head.append(title, element('span', `state ${tone}`, `${mark} ${word}`));
  card.append(head, element('p', '', `pool ${pool.cluster}: ${describeServers(pool)}`));
  if (pool.hosts.length > 0) card.append(...createHosts(pool));
  return card;
}

/** @param {Pool} pool */
function describeServers(pool) {
  if (pool.known_to_envoy === null) return 'not seen yet';
  if (!pool.known_to_envoy) return 'Envoy has no cluster of this name';
  const needed = pool.min_up > 1 ? `, needs ${pool.min_up}` : '';
  const held = pool.held_up ? ', held back by hold_up' : '';
  return `${pool.servers_up} of ${pool.servers_total} servers up${needed}${held}`;
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
    row.append(element('td', host.up ? 'good' : 'bad', host.up ? '● up' : `▲ down: ${host.why}`));
  }
  const unshown = up.length - MAX_UP_HOSTS_SHOWN;
  return unshown > 0 ? [table, element('p', '', `and ${unshown} more that are up`)] : [table];
}

function createDecisionRows() {
  const body = byId('decisions').querySelector('tbody');
  return KINDS.map((kind) => {
    const row = element('tr');
    const name = row.appendChild(element('th'));
    name.setAttribute('scope', 'row');
    name.append(createKey(kind), kind, element('span', 'meaning', MEANINGS[kind]));
    const perSecond = row.appendChild(element('td', 'number', '0'));
    const total = row.appendChild(element('td', 'number', '0'));
    body?.append(row);
    return { kind, perSecond, total };
  });
}

/** @param {State['decisions']} decisions */
function showDecisions(decisions) {
  for (const { kind, perSecond, total } of rows) {
    perSecond.textContent = decisions[kind].per_second.toLocaleString();
    total.textContent = decisions[kind].total.toLocaleString();
  }
}

function showGraph() {
  byId('graph-top').textContent = `top line: ${drawGraph(samples).toLocaleString()} a second`;
}

/** @param {State} of */
function showFastPath({ fast_path: fastPath }) {
  const note = byId('fast-path');
  note.hidden = fastPath === 'unused';
  note.textContent =
    fastPath === 'on'
      ? 'The fast path is on: requests that need no decision stay in Envoy and are not counted here.'
      : fastPath === 'off'
        ? 'The fast path is off for now: every request asks the sidecar.'
        : "Envoy rejects the fast path's runtime key, see the log: every request asks the sidecar.";
}

/** @param {State['changes']} changes */
function showChanges(changes) {
  const fresh = newestChange === null ? [] : changes.slice(0, indexOrEnd(changes.map(keyOf), newestChange));
  newestChange = changes[0] === undefined ? '' : keyOf(changes[0]);
  byId('changes').replaceChildren(...changes.map(createChange));
  if (fresh.length > 0) {
    const messages = fresh.map(({ message }) => message);
    say(messages.reverse().join('. '));
  }
}

/** @param {State['changes'][number]} change */
function createChange({ time, level, message }) {
  const item = element('li');
  const when = element('time', '', dateAndTime(time));
  when.setAttribute('datetime', time);
  when.title = time;
  const mark = { info: '', warn: '▲ ', error: '✖ ' }[level];
  item.append(when, element('span', { info: '', warn: 'warn', error: 'bad' }[level], `${mark}${message}`));
  return item;
}

/** @param {State['changes'][number]} change */
function keyOf({ time, message }) {
  return `${time} ${message}`;
}

/**
 * @param {readonly string[]} list
 * @param {string} item
 */
function indexOrEnd(list, item) {
  const index = list.indexOf(item);
  return index === -1 ? list.length : index;
}

/**
 * For a screen reader; changes are said once, numbers never. What comes at the same time is said together, for a
 * later text takes the place of one that is still being read.
 * @param {string} text
 */
function say(text) {
  if (toSay.push(text) > 1) return;
  setTimeout(() => {
    byId('said').textContent = toSay.splice(0).join(' ');
  }, SAY_DELAY_MS);
}

/** @param {string} iso */
function timeLeft(iso) {
  const seconds = Math.max(0, Math.round((Date.parse(iso) - Date.now()) / 1_000));
  const parts = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  const named = parts.map((part, index) => `${part} ${['h', 'min', 's'][index]}`);
  return `${named.slice(parts.findIndex((part, index) => part > 0 || index === 2)).join(' ')} left`;
}

/** @param {string} iso */
function dateAndTime(iso) {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday ? clock(time) : `${time.toLocaleDateString()} ${clock(time)}`;
}

/** @param {Date} time */
function clock(time) {
  return time.toLocaleTimeString(undefined, { hourCycle: 'h23' });
}

/** @param {string} name */
function column(name) {
  const cell = element('th', '', name);
  cell.setAttribute('scope', 'col');
  return cell;
}

/**
 * @param {string} tag
 * @param {string} [classes]
 * @param {string} [text]
 */
function element(tag, classes = '', text = '') {
  const made = document.createElement(tag);
  if (classes !== '') made.className = classes;
  if (text !== '') made.textContent = text;
  return made;
}

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}
