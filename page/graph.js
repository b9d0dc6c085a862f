// Decisions a second as lines, one for each kind, drawn anew with each second.

const WIDTH = 600;
const HEIGHT = 200;
const SECONDS = 120;
const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {import('./status.js').Kind} Kind */
/** @typedef {import('./status.js').Sample} Sample */

/**
 * @param {Element} svg
 * @param {readonly Kind[]} kinds
 * @returns {(samples: readonly Sample[]) => number} draws the samples, of which the last is now; returns the top of the scale
 */
export function createGraph(svg, kinds) {
  const grid = svg.appendChild(line('grid'));
  grid.setAttribute('d', [0.005, 0.25, 0.5, 0.75].map((part) => `M0 ${HEIGHT * part}H${WIDTH}`).join(''));
  const lines = kinds.map((kind) => ({ kind, path: svg.appendChild(line(`kind ${kind}`)) }));

  return function draw(samples) {
    const nowMs = samples.at(-1)?.atMs ?? 0;
    const seen = samples.filter(({ atMs }) => nowMs - atMs <= SECONDS * 1_000);
    const top = roundUp(Math.max(1, ...seen.flatMap(({ perSecond }) => kinds.map((kind) => perSecond[kind]))));
    const x = (/** @type {number} */ atMs) => (WIDTH * (1 - (nowMs - atMs) / (SECONDS * 1_000))).toFixed(1);
    const y = (/** @type {number} */ rate) => (HEIGHT - 2 - (HEIGHT - 4) * (rate / top)).toFixed(1);
    for (const { kind, path } of lines) {
      // A kind that did not happen would hide the line beneath it.
      const happened = seen.some(({ perSecond }) => perSecond[kind] > 0);
      const points = happened ? seen.map(({ atMs, perSecond }) => `${x(atMs)} ${y(perSecond[kind])}`) : [];
      path.setAttribute('d', points.length === 0 ? '' : `M${points.join('L')}`);
    }
    return top;
  };
}

/**
 * The line of a kind, as the graph draws it.
 * @param {Kind} kind
 */
export function createKey(kind) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 40 12');
  svg.setAttribute('aria-hidden', 'true');
  svg.appendChild(line(`kind ${kind}`)).setAttribute('d', 'M0 6H40');
  return svg;
}

/** @param {string} classes */
function line(classes) {
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('class', classes);
  return path;
}

/**
 * To a number that is easy to read.
 * @param {number} value
 */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.5, 2, 3, 4, 5, 6, 8].find((step) => step * power >= value) ?? 10) * power || 1;
}
