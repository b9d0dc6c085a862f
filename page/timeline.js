// How each pool of an application was, as a line and in words.

import { arrange, createPath, createSvg, element, setText } from './elements.js';
import { dateAndTime } from './words.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport['pools'][number]} Pool */
/** @typedef {import('../src/ops/pool-history.ts').PoolHistoryReport} History */
/** @typedef {import('../src/ops/pool-history.ts').PoolStateName} StateName */

/**
 * @typedef Span a time in which a pool was the same
 * @property {StateName} state
 * @property {number} fromMs
 * @property {number} toMs
 * @property {boolean} isOver
 */

/**
 * @typedef Window
 * @property {number} nowMs by the sidecar's clock, in milliseconds since 1970
 * @property {number} seconds so far back
 * @property {unknown} connection another one may have missed something
 */

const WIDTH = 600;
const HEIGHT = 12;
/** However short it was, it is to be seen. */
const MIN_WIDTH = 3;
const MAX_SPANS_TOLD = 3;

/** @type {readonly StateName[]} A later one is drawn over an earlier one. */
const STATES = ['up', 'unknown', 'held', 'down'];

/**
 * @param {Element} parent
 * @returns {(pools: readonly Pool[], window: Window) => void} shows the pools of an application
 */
export function createTimeline(parent) {
  const list = parent.appendChild(element('ul', 'timeline'));
  list.setAttribute('aria-label', 'How the pools were');
  /** @type {Map<string, ReturnType<typeof createRow>>} */
  const rows = new Map();
  /** @type {readonly History[]} */
  let histories = [];
  let asked = '';

  /** @param {Window} window */
  function draw(window) {
    arrange(
      list,
      histories.map(({ site, history }) => {
        const row = rows.get(site) ?? createRow(site);
        rows.set(site, row);
        row.show(spansOf(history, window), window);
        return row.item;
      }),
    );
  }

  /**
   * @param {string} application
   * @param {Window} window
   */
  async function ask(application, window) {
    const answer = await fetch(`api/history?application=${encodeURIComponent(application)}`).catch(() => null);
    if (answer?.ok !== true) {
      // Again with the next second.
      asked = '';
      return;
    }
    histories = (await answer.json()).pools;
    draw(window);
  }

  return (pools, window) => {
    const [first] = pools;
    if (first === undefined) return;
    // What is asked for again when a pool has become otherwise.
    const states = pools.map(({ up, health_known, held_up, held }) => [up, health_known, held_up, held !== null]);
    const key = JSON.stringify([window.connection, states]);
    if (key !== asked) {
      asked = key;
      void ask(first.application, window);
    }
    draw(window);
  };
}

/** @param {string} site */
function createRow(site) {
  const item = element('li');
  const text = item.appendChild(element('p', 'note'));
  const svg = item.appendChild(createSvg(WIDTH, HEIGHT));
  svg.setAttribute('preserveAspectRatio', 'none');
  const lines = STATES.map((state) => ({ state, path: svg.appendChild(createPath(`was-${state}`)) }));
  return {
    item,
    /**
     * @param {readonly Span[]} spans
     * @param {Window} window
     */
    show(spans, { nowMs, seconds }) {
      const x = (/** @type {number} */ atMs) => WIDTH * (1 - (nowMs - atMs) / (seconds * 1_000));
      for (const { state, path } of lines) {
        const own = spans.filter((span) => span.state === state);
        const drawn = own.map(({ fromMs, toMs }) => {
          const [from, to] = [Math.max(0, x(fromMs)), x(toMs)];
          return `M${Math.min(from, WIDTH - MIN_WIDTH).toFixed(1)} ${HEIGHT / 2}H${Math.max(to, from + MIN_WIDTH).toFixed(1)}`;
        });
        path.setAttribute('d', drawn.join(''));
      }
      setText(text, `${site}: ${describeSpans(spans)}`);
    },
  };
}

/**
 * Those of which some is in the window, the oldest first.
 * @param {History['history']} history
 * @param {Window} window
 * @returns {Span[]}
 */
function spansOf(history, { nowMs, seconds }) {
  const startMs = nowMs - seconds * 1_000;
  return history
    .map(({ atMs, state }, index) => {
      const next = history[index + 1];
      return { state, fromMs: atMs, toMs: next?.atMs ?? nowMs, isOver: next !== undefined };
    })
    .filter(({ toMs }) => toMs >= startMs);
}

/**
 * The newest first: states other than up.
 * @param {readonly Span[]} spans
 */
function describeSpans(spans) {
  const [first] = spans;
  if (first === undefined) return 'not known yet';
  const told = spans.filter(({ state }) => state !== 'up').toReversed();
  if (told.length === 0) return `up since ${timeOf(first.fromMs)} at least`;
  const texts = told.slice(0, MAX_SPANS_TOLD).map(({ state, fromMs, toMs, isOver }) => {
    return isOver ? `${state} ${timeOf(fromMs)}–${timeOf(toMs)}` : `${state} since ${timeOf(fromMs)}`;
  });
  const more = told.length - MAX_SPANS_TOLD;
  return `${texts.join(', ')}${more > 0 ? ` and ${more} times more` : ''}`;
}

/** @param {number} atMs */
function timeOf(atMs) {
  return dateAndTime(new Date(atMs).toISOString());
}
