/** Charts as SVG text: readable on a light and on a dark page, and the same for the same figures. */

export interface BarChart {
  readonly title: string;
  /** What the figures are of, and whether more or less of it is better. */
  readonly subtitle: string;
  readonly series: readonly string[];
  /** One value for each of the series. */
  readonly bars: readonly { readonly label: string; readonly values: readonly number[] }[];
  /** The series of one bar add up; otherwise each has a bar of its own. */
  readonly stacked: boolean;
  readonly format: (value: number) => string;
}

export interface LineChart {
  readonly title: string;
  readonly subtitle: string;
  readonly lines: readonly { readonly label: string; readonly points: readonly (readonly [x: number, y: number])[] }[];
  /** What happened at a time, as an upright line with a letter. */
  readonly marks?: readonly { readonly x: number; readonly label: string }[];
  readonly formatX: (value: number) => string;
  readonly formatY: (value: number) => string;
}

/** Told apart by people who see few colours as well (Okabe and Ito). */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00'];

const WIDTH = 760;
const PADDING = 20;
const LABELS = 250;
const VALUES = 90;
const HEAD = 64;
const LEGEND = 26;
const BAR = 18;
const GAP = 12;

export function drawBars({ title, subtitle, series, bars, stacked, format }: BarChart): string {
  const perBar = stacked ? 1 : series.length;
  const rowHeight = perBar * BAR + GAP;
  const hasLegend = series.length > 1;
  const top = HEAD + (hasLegend ? LEGEND : 0);
  const most = Math.max(...bars.map(({ values }) => (stacked ? sum(values) : Math.max(...values))), Number.MIN_VALUE);
  const lengthOf = (value: number) => (value / most) * (WIDTH - 2 * PADDING - LABELS - VALUES);
  const left = PADDING + LABELS;

  const rows = bars.flatMap(({ label, values }, row) => {
    const y = top + row * rowHeight;
    let x = left;
    const parts = values.flatMap((value, at) => {
      const barY = y + (stacked ? 0 : at * BAR);
      const bar = rect(x, barY, lengthOf(value), BAR - 2, colour(at));
      if (!stacked) return [bar, text(x + lengthOf(value) + 6, barY + 12, format(value))];
      x += lengthOf(value);
      return [bar];
    });
    if (stacked) parts.push(text(x + 6, y + 12, format(sum(values))));
    return [text(left - 8, y + (perBar * BAR) / 2 + 3, label, 'text-anchor="end"'), ...parts];
  });
  const legend = hasLegend ? drawLegend(series) : [];
  return document(top + bars.length * rowHeight + PADDING - GAP, title, subtitle, [...legend, ...rows]);
}

export function drawLines({ title, subtitle, lines, marks = [], formatX, formatY }: LineChart): string {
  const height = 360;
  const [left, right, top, bottom] = [70, WIDTH - PADDING, HEAD + LEGEND, height - 40];
  const points = lines.flatMap((line) => line.points);
  const mostX = Math.max(...points.map(([x]) => x), Number.MIN_VALUE);
  const mostY = Math.max(...points.map(([, y]) => y), Number.MIN_VALUE);
  const atX = (x: number) => left + (x / mostX) * (right - left);
  const atY = (y: number) => bottom - (y / mostY) * (bottom - top);
  const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    `<path d="M${left} ${round(atY(share * mostY))}H${right}" stroke="#d0d0d0"/>`,
    text(left - 8, atY(share * mostY) + 4, formatY(share * mostY), 'text-anchor="end"'),
    text(atX(share * mostX), bottom + 20, formatX(share * mostX), `text-anchor="${share === 1 ? 'end' : 'middle'}"`),
  ]);
  const marked = marks.flatMap(({ x, label }) => [
    `<path d="M${round(atX(x))} ${top}V${bottom}" stroke="#bbbbbb" stroke-dasharray="2 3"/>`,
    text(atX(x), top - 4, label, 'text-anchor="middle" font-size="9"'),
  ]);
  const drawn = lines.map(({ points: own }, at) => {
    const path = own.map(([x, y]) => `${round(atX(x))},${round(atY(y))}`).join(' ');
    return `<polyline points="${path}" fill="none" stroke="${colour(at)}" stroke-width="2"/>`;
  });
  return document(height, title, subtitle, [
    ...drawLegend(lines.map(({ label }) => label)),
    ...parts,
    ...marked,
    ...drawn,
  ]);
}

function drawLegend(names: readonly string[]): string[] {
  let x = PADDING;
  return names.flatMap((name, at) => {
    const entry = [rect(x, HEAD - 4, 12, 12, colour(at)), text(x + 18, HEAD + 6, name)];
    x += 40 + name.length * 7;
    return entry;
  });
}

function document(height: number, title: string, subtitle: string, parts: readonly string[]): string {
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${round(height)}" viewBox="0 0 ${WIDTH} ${round(height)}" role="img" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="100%" height="100%" rx="6" fill="#ffffff"/>`,
    text(PADDING, 26, title, 'font-size="16" font-weight="600"'),
    text(PADDING, 45, subtitle, 'font-size="12"'),
    ...parts,
    '</svg>',
  ].join('\n')}\n`;
}

function rect(x: number, y: number, width: number, height: number, fill: string): string {
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${height}" fill="${fill}"/>`;
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${round(x)}" y="${round(y)}" fill="#222222" ${attributes}>${escapeXml(content)}</text>`;
}

function colour(at: number): string {
  return COLOURS[at % COLOURS.length] ?? '#000000';
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(content: string): string {
  return content.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
