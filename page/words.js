// What the page says, in words.

/** @typedef {import('../src/ops/state.ts').SiteStateReport} State */
/** @typedef {State['applications'][number]} Application */
/** @typedef {Pick<Application, 'draining' | 'draining_since' | 'draining_until' | 'draining_reason' | 'evicting'>} DrainState */

/**
 * A level by sign, word and colour, so that none is told by its colour alone.
 * @type {Readonly<Record<Application['verdict_level'], {sign: string, word: string, tone: string}>>}
 */
export const LEVELS = {
  ok: { sign: '●', word: 'ok', tone: 'good' },
  warn: { sign: '▲', word: 'warn', tone: 'warn' },
  down: { sign: '✖', word: 'DOWN', tone: 'bad' },
};

/**
 * The worst first.
 * @type {readonly Application['verdict_level'][]}
 */
export const WORST_FIRST = ['down', 'warn', 'ok'];

/** @param {DrainState} of */
export function describeDrain({ draining, draining_since: since, draining_until: until, draining_reason, evicting }) {
  if (!draining) return '';
  const served = evicting
    ? 'no new clients, and sessions of this site move to other sites.'
    : 'no new clients, sessions of this site are still served.';
  if (since === null) return `▼ Draining by the config file, until it says otherwise: ${served}`;
  const end = until === null ? 'until undrain' : `until ${dateAndTime(until)} (${timeLeft(until)})`;
  const reason = draining_reason === null ? '' : ` (${draining_reason})`;
  return `▼ Draining since ${dateAndTime(since)}, ${end}${reason}: ${served}`;
}

/**
 * What a drain waits for the end of.
 * @param {Pick<Application, 'own_requests_last_minute'>} of
 */
export function requestsOf({ own_requests_last_minute: count }) {
  return `${count.toLocaleString()} ${count === 1 ? 'request' : 'requests'}`;
}

/** @param {NonNullable<State['pools'][number]['held']>} held */
export function describeHold({ since, until, reason }) {
  const end = until === null ? 'until release' : `until ${dateAndTime(until)}`;
  return `held since ${dateAndTime(since)}, ${end}: ${reason}. This site takes it for down.`;
}

/** @param {Application['fast_path']} fastPath */
export function describeFastPath(fastPath) {
  switch (fastPath) {
    case 'unused':
      return '';
    case 'on':
      return 'The fast path is on: requests that need no decision stay in Envoy.';
    case 'off':
      return 'The fast path is off for now: requests for this site ask the sidecar.';
    case 'refused':
      return "Envoy rejects the fast path's runtime keys, see the log: every request asks the sidecar.";
  }
}

/**
 * @param {import('../src/ops/decision-rates.ts').RateSample} sample
 * @param {readonly (keyof State['decisions'])[]} kinds
 */
export function describeSample({ atMs, perSecond }, kinds) {
  const happened = kinds
    .filter((kind) => perSecond[kind] >= 0.05)
    .map((kind) => `${kind} ${perSecond[kind].toLocaleString(undefined, { maximumFractionDigits: 1 })}`);
  return `${clock(new Date(atMs))}: ${happened.length === 0 ? 'no decision' : `${happened.join(', ')} a second`}`;
}

/** @param {number} seconds as many as one can choose */
export function describeSeconds(seconds) {
  return seconds === 3_600 ? 'hour' : `${seconds / 60} minutes`;
}

/** @param {string} iso */
function timeLeft(iso) {
  const seconds = Math.max(0, Math.round((Date.parse(iso) - Date.now()) / 1_000));
  const parts = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  const named = parts.map((part, index) => `${part} ${['h', 'min', 's'][index]}`);
  return `${named.slice(parts.findIndex((part, index) => part > 0 || index === 2)).join(' ')} left`;
}

/** @param {string} iso */
export function dateAndTime(iso) {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  const date = [time.getFullYear(), twoDigits(time.getMonth() + 1), twoDigits(time.getDate())].join('-');
  return isToday ? clock(time) : `${date} ${clock(time)}`;
}

/**
 * In the reader's time zone, and as in the log.
 * @param {Date} time
 */
export function clock(time) {
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map(twoDigits).join(':');
}

/** @param {number} value */
function twoDigits(value) {
  return String(value).padStart(2, '0');
}
