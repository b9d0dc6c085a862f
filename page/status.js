// Shows what the sidecar says of its site, live.

import { createApplications } from './applications.js';
import { createChanges, keyOf } from './changes.js';
import { createDecisions, KINDS } from './decisions.js';
import { createDrainButton } from './drain.js';
import { byId, byIdOf, element, setClasses, setText } from './elements.js';
import { createGraph } from './graph.js';
import { createPools, showCountdowns } from './pools.js';
import { createSessions } from './sessions.js';
import { createTimeline } from './timeline.js';
import {
  clock,
  dateAndTime,
  describeDrain,
  describeFastPath,
  describeSample,
  describeSeconds,
  LEVELS,
} from './words.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport} State */
/** @typedef {import('../src/ops/decision-rates.ts').RateSample} Sample */
/** @typedef {import('../src/ops/event-streams.ts').TickReport} Tick */

/** A tick comes each second. */
const SILENCE_MS = 5_000;
const RETRY_MS = 1_000;
const SAMPLES_KEPT_MS = 3_600_000;
/** The older ones are in their application. */
const MAX_CHANGES_SHOWN = 50;
/** So that what is below is on the screen as well. */
const CHANGES_AT_FIRST = 6;
/** Of many changes at once the newest are said. */
const MAX_CHANGES_SAID = 5;
/** Read already; those who go through the page find the last ones. */
const MAX_LINES_SAID = 20;

const graph = createGraph(byId('graph'), byIdOf('moment', HTMLInputElement), KINDS);
const withStatus = byIdOf('with-status', HTMLInputElement);
const range = byIdOf('range', HTMLSelectElement);
const showSessions = createSessions(byId('sessions'));
const showTimeline = createTimeline(byId('timeline'));
const showDrainButton = createDrainButton(byId('drain-action'));
const showPools = createPools(byId('pools'));
const showDecisions = createDecisions(byId('decisions'));
const showApplications = createApplications(say);
const listChanges = createChanges(byId('changes'), { namesApplications: hasSeveral });

/** @type {State | null} */
let state = null;
/** @type {Sample[]} */
let samples = [];
/** @type {string | null} The newest change that was shown; null before the first. */
let newestChange = null;
/** @type {EventSource} */
let source;
/** How often it has connected. */
let connection = 0;
let heardAtMs = performance.now();
let isLost = false;
let isWaiting = false;
let showsAllChanges = false;

graph.onRead((sample) => setText(byId('reading'), sample === null ? '' : describeSample(sample, shownKinds())));
for (const setting of [withStatus, range]) {
  setting.addEventListener('change', () => {
    if (state !== null) showTime(state);
  });
}
byId('more-changes').addEventListener('click', () => {
  showsAllChanges = !showsAllChanges;
  if (state !== null) listShownChanges(state.changes);
});

connect();
setInterval(() => {
  if (performance.now() - heardAtMs > SILENCE_MS) reconnect();
  if (state !== null) showDrain(state);
  showCountdowns();
}, 1_000);

function connect() {
  isWaiting = false;
  heardAtMs = performance.now();
  connection++;
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
      `? No connection to the sidecar since ${clock(new Date())}: what is below is old. Trying again.`;
    byId('lost').hidden = false;
    document.body.classList.add('is-lost');
    showIcon('warn', '? ');
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
    if (state !== null) showVerdict(state);
    say('Connected to the sidecar again.');
  }
  show();
}

function hasSeveral() {
  return state !== null && state.applications.length > 1;
}

/** @param {State} next */
function showState(next) {
  state = next;
  setText(byId('site'), next.site);
  showVerdict(next);
  showFacts(next);
  showDrain(next);
  showButton(next);
  showAge(next);
  byId('pools-section').hidden = hasSeveral();
  setText(byId('skip'), `Skip to the ${hasSeveral() ? 'applications' : 'pools'}`);
  showPools(hasSeveral() ? [] : next.pools, next.health_known);
  showTime(next);
  showDecisions(next.decisions);
  showFastPath(next);
  showChanges(next.changes);
  setText(byId('version'), `site-persistence ${next.version}, running since ${dateAndTime(next.started)}`);
}

/** @param {Sample[]} history */
function showSamples(history) {
  samples = history;
  if (state !== null) showTime(state);
}

/** @param {Tick} tick */
function showTick({ applications: decisionsOf, sessions: sessionsOf, atMs, perSecond, ...counted }) {
  if (state === null) return;
  const applications = state.applications.map((application) => ({
    ...application,
    decisions: { ...application.decisions, ...decisionsOf[application.name] },
    sessions: { ...application.sessions, ...sessionsOf[application.name] },
  }));
  state = { ...state, ...counted, applications };
  samples = [...samples.filter((sample) => atMs - sample.atMs < SAMPLES_KEPT_MS), { atMs, perSecond }];
  showFacts(state);
  showAge(state);
  showDecisions(state.decisions);
  showTime(state);
}

/** @param {State} of */
function showVerdict({ not_ready: notReady, verdict: text, verdict_level: level }) {
  const { sign, tone } = LEVELS[level];
  const verdict = byId('verdict');
  setClasses(verdict, tone);
  setText(verdict, `${sign} ${text}`);
  const shown = level === 'ok' && notReady !== null ? 'warn' : level;
  showIcon(shown, { ok: '', warn: '⚠ ', down: '✖ ' }[shown]);
}

/**
 * What is seen of the page in a row of tabs.
 * @param {State['applications'][number]['verdict_level']} level
 * @param {string} mark
 */
function showIcon(level, mark) {
  document.title = `${mark}Site ${state?.site ?? ''}`;
  const icon = level === 'ok' ? 'icon.svg' : `icon-${level}.svg`;
  if (byId('icon').getAttribute('href') !== icon) byId('icon').setAttribute('href', icon);
}

/** @param {State} of */
function showFacts({ not_ready: notReady, health_known: isKnown, draining, applications }) {
  const some = applications.filter((application) => application.draining).length;
  /** @type {[tone: string, text: string][]} */
  const facts = [
    notReady === null ? ['good', '✔ ready'] : ['bad', `✖ not ready: ${notReady}`],
    isKnown ? ['good', '✔ health known'] : ['bad', '? health unknown'],
    draining ? ['warn', '▼ draining'] : some > 0 ? ['warn', `▼ draining: ${some}`] : ['', 'not draining'],
  ];
  const list = byId('facts');
  // Left alone while it says the same, so that it can be read and selected.
  if (list.textContent === facts.map(([, text]) => text).join('')) return;
  list.replaceChildren(...facts.map(([tone, text]) => element('li', tone, text)));
}

/** @param {State} of */
function showDrain(of) {
  byId('drain').hidden = !of.draining;
  setText(byId('drain'), describeDrain(of));
}

/**
 * Of several applications each has its own.
 * @param {State} of
 */
function showButton(of) {
  const [only] = of.applications;
  if (only !== undefined && !hasSeveral()) showDrainButton(of, only, of.site);
  byId('drain-action').hidden = hasSeveral();
}

/**
 * While Envoy does not answer.
 * @param {State} of
 */
function showAge({ health_known: isKnown, health_age_ms: ageMs }) {
  byId('stale').hidden = isKnown || ageMs === null;
  const seconds = Math.round((ageMs ?? 0) / 1_000);
  setText(byId('stale'), `? Envoy last answered ${seconds} s ago: pools and servers are as last seen then.`);
}

/** What monitors ask says nothing of clients, and would flatten the rest. */
function shownKinds() {
  return KINDS.filter((kind) => kind !== 'status' || withStatus.checked);
}

/**
 * What goes on with each second.
 * @param {State} of
 */
function showTime(of) {
  const seconds = Number(range.value);
  const top = graph.draw(samples, shownKinds(), seconds);
  setText(byId('graph-top'), `${top.toLocaleString()} a second`);
  setText(byId('graph-start'), `${describeSeconds(seconds).replace('hour', '1 hour')} ago`);
  const window = { nowMs: samples.at(-1)?.atMs ?? Date.now(), seconds, connection };
  showTimeline(hasSeveral() ? [] : of.pools, window);
  const [only] = of.applications;
  byId('sessions-section').hidden = hasSeveral();
  if (only !== undefined) showSessions(only.sessions);
  showApplications(of, window);
}

/** @param {State} of */
function showFastPath({ fast_path: fastPath, other_hosts: otherHosts }) {
  // Of several applications each says its own.
  byId('fast-path').hidden = fastPath === 'unused' || hasSeveral();
  setText(byId('fast-path'), describeFastPath(fastPath));
  byId('other-hosts').hidden = otherHosts === 0;
  setText(
    byId('other-hosts'),
    `${otherHosts.toLocaleString()} requests were for hosts of no application: the sidecar has no opinion of them.`,
  );
}

/** @param {State['changes']} changes */
function showChanges(changes) {
  const fresh = newestChange === null ? [] : changes.slice(0, indexOrEnd(changes.map(keyOf), newestChange));
  newestChange = changes[0] === undefined ? '' : keyOf(changes[0]);
  listShownChanges(changes);
  if (fresh.length === 0) return;
  const messages = fresh.slice(0, MAX_CHANGES_SAID).map(({ message }) => message);
  const unsaid = fresh.length - messages.length;
  say([...(unsaid > 0 ? [`${unsaid} more changes`] : []), ...messages.toReversed()].join('. '));
}

/** @param {State['changes']} changes */
function listShownChanges(changes) {
  const all = changes.slice(0, MAX_CHANGES_SHOWN);
  listChanges(showsAllChanges ? all : all.slice(0, CHANGES_AT_FIRST));
  const more = byId('more-changes');
  more.hidden = all.length <= CHANGES_AT_FIRST;
  more.setAttribute('aria-expanded', String(showsAllChanges));
  setText(more, showsAllChanges ? 'Fewer' : `${all.length - CHANGES_AT_FIRST} more`);
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
 * For a screen reader; changes are said once, numbers never. Each is a line of a log, which is read after those before it:
 * a text in the place of another cuts it short or is all that is read.
 * @param {string} text
 */
function say(text) {
  const said = byId('said');
  said.append(element('p', '', text));
  if (said.children.length > MAX_LINES_SAID) said.firstElementChild?.remove();
}
