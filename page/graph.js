// Decisions a second as lines, one for each kind, drawn anew with each second.

import { createPath, createSvg } from './elements.js';

const WIDTH = 600;
const HEIGHT = 200;
/** Over more than so much a point is the mean of some seconds. */
const BY_THE_SECOND_S = 120;
const SECONDS_PER_POINT = 5;

/** @typedef {import('./decisions.js').Kind} Kind */
/** @typedef {import('../src/ops/decision-rates.ts').RateSample} Sample */

/**
 * @typedef Graph
 * @property {(samples: readonly Sample[], shown: readonly Kind[], seconds: number) => number} draw draws the samples of the last
 * seconds, of which the last is now; returns the top of the scale
 * @property {(listener: (sample: Sample | null) => void) => void} onRead calls the listener with the moment that is pointed at, or
 * that the slider is at; null: none any more
 */

/**
 * @param {Element} svg
 * @param {HTMLInputElement} slider in seconds before now, for those who do not point
 * @param {readonly Kind[]} kinds
 * @returns {Graph}
 */
export function createGraph(svg, slider, kinds) {
  const grid = svg.appendChild(createPath('grid'));
  grid.setAttribute('d', [0.005, 0.25, 0.5, 0.75].map((part) => `M0 ${HEIGHT * part}H${WIDTH}`).join(''));
  const lines = kinds.map((kind) => ({ kind, path: svg.appendChild(createPath(`kind ${kind}`)) }));
  const cursor = svg.appendChild(createPath('cursor'));
  /** @type {readonly Sample[]} */
  let seen = [];
  let nowMs = 0;
  let rangeMs = 1;
  /** When the moment is that is read, in milliseconds since 1970; it stays while the graph moves on. @type {number | null} */
  let readMs = null;
  /** @type {(sample: Sample | null) => void} */
  let tell = () => {};

  const x = (/** @type {number} */ atMs) => (WIDTH * (1 - (nowMs - atMs) / rangeMs)).toFixed(1);

  /** @param {number | null} atMs */
  function read(atMs) {
    const sample = atMs === null ? null : nearest(seen, atMs);
    readMs = sample?.atMs ?? null;
    cursor.setAttribute('d', sample === null ? '' : `M${x(sample.atMs)} 0V${HEIGHT}`);
    tell(sample);
  }

  svg.addEventListener('pointermove', (event) => {
    if (!(event instanceof PointerEvent)) return;
    const { left, width } = svg.getBoundingClientRect();
    read(nowMs - (1 - (event.clientX - left) / width) * rangeMs);
  });
  svg.addEventListener('pointerleave', () => read(null));
  for (const type of ['focus', 'input']) {
    slider.addEventListener(type, () => read(nowMs + slider.valueAsNumber * 1_000));
  }
  slider.addEventListener('blur', () => read(null));

  return {
    draw(samples, shown, seconds) {
      nowMs = samples.at(-1)?.atMs ?? 0;
      rangeMs = seconds * 1_000;
      const step = seconds > BY_THE_SECOND_S ? SECONDS_PER_POINT : 1;
      slider.min = String(-seconds);
      slider.step = String(step);
      const inRange = samples.filter(({ atMs }) => nowMs - atMs <= rangeMs);
      seen = step === 1 ? inRange : meansOf(inRange, step, kinds);
      const top = roundUp(Math.max(1, ...seen.flatMap(({ perSecond }) => shown.map((kind) => perSecond[kind]))));
      const y = (/** @type {number} */ rate) => (HEIGHT - 2 - (HEIGHT - 4) * (rate / top)).toFixed(1);
      for (const { kind, path } of lines) {
        // A kind that did not happen would hide the line beneath it.
        const happened = shown.includes(kind) && seen.some(({ perSecond }) => perSecond[kind] > 0);
        const points = happened ? seen.map(({ atMs, perSecond }) => `${x(atMs)} ${y(perSecond[kind])}`) : [];
        path.setAttribute('d', points.length === 0 ? '' : `M${points.join('L')}`);
      }
      if (readMs !== null) read(readMs);
      return top;
    },
    onRead(listener) {
      tell = listener;
    },
  };
}

/**
 * @param {readonly Sample[]} samples
 * @param {number} atMs
 */
function nearest(samples, atMs) {
  const distance = (/** @type {Sample} */ sample) => Math.abs(sample.atMs - atMs);
  return samples.reduce(
    (/** @type {Sample | null} */ best, sample) => (best === null || distance(sample) < distance(best) ? sample : best),
    null,
  );
}

/**
 * @param {readonly Sample[]} samples
 * @param {number} seconds
 * @param {readonly Kind[]} kinds
 * @returns {Sample[]} one for so many seconds
 */
function meansOf(samples, seconds, kinds) {
  const groups = Map.groupBy(samples, ({ atMs }) => Math.floor(atMs / (seconds * 1_000)));
  return [...groups.values()].map((group) => {
    const mean = (/** @type {Kind} */ kind) =>
      group.reduce((sum, { perSecond }) => sum + perSecond[kind], 0) / group.length;
    const means = kinds.map((kind) => [kind, mean(kind)]);
    return { atMs: group.at(-1)?.atMs ?? 0, perSecond: Object.fromEntries(means) };
  });
}

/**
 * The line of a kind, as the graph draws it.
 * @param {Kind} kind
 */
export function createKey(kind) {
  const svg = createSvg(40, 12);
  svg.appendChild(createPath(`kind ${kind}`)).setAttribute('d', 'M0 6H40');
  return svg;
}

/**
 * To a number that is easy to read.
 * @param {number} value
 */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 5, 6, 8].find((step) => step * power >= value) ?? 10) * power || 1;
}
