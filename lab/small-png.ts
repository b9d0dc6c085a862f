import { deflateSync, inflateSync } from 'node:zlib';

/** Text and lines on a plain ground: more of them are not told apart. */
const MAX_COLOURS = 48;

const SIGNATURE_BYTES = 8;
/** A chunk's length, type and checksum. */
const FRAME_BYTES = 12;
const COLOUR_TYPES = { palette: 3 } as const;

interface Picture {
  readonly width: number;
  readonly height: number;
  /** Row by row, `0xrrggbb`. */
  readonly pixels: Uint32Array;
}

/** A screenshot in a third of its bytes: with a palette of few colours. */
export function shrinkPng(png: Buffer): Buffer {
  const { width, height, pixels } = decode(png);
  const counts = new Map<number, number>();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const palette = choosePalette(counts);
  const indexes = new Map([...counts.keys()].map((colour) => [colour, nearest(palette, colour)]));
  // Each row has the number of its filter in front: none.
  const rows = Buffer.alloc((width + 1) * height);
  for (const [at, pixel] of pixels.entries()) rows[at + Math.floor(at / width) + 1] = indexes.get(pixel) ?? 0;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, COLOUR_TYPES.palette], 8);
  return Buffer.concat([
    png.subarray(0, SIGNATURE_BYTES),
    chunk('IHDR', header),
    chunk('PLTE', Buffer.from(palette.flatMap(channelsOf))),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** One after the other the colour of which most is far from those that are chosen: a thin line's as well as the ground's. */
function choosePalette(counts: ReadonlyMap<number, number>): number[] {
  const far = new Map([...counts].map(([colour, count]) => [colour, { count, distance: 1 }]));
  const palette: number[] = [];
  while (palette.length < Math.min(MAX_COLOURS, counts.size)) {
    let [best, most] = [0, -1];
    for (const [colour, { count, distance }] of far) {
      if (count * distance > most) [best, most] = [colour, count * distance];
    }
    palette.push(best);
    const isFirst = palette.length === 1;
    for (const [colour, of] of far) {
      const distance = distanceOf(best, colour);
      of.distance = isFirst ? distance : Math.min(of.distance, distance);
    }
  }
  return palette;
}

/** As Chromium makes them: 8 bits a channel, without a palette, in one pass. */
function decode(png: Buffer): Picture {
  const parts: Buffer[] = [];
  let [width, height, bytesPerPixel] = [0, 0, 3];
  for (let at = SIGNATURE_BYTES; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') {
      [width, height] = [data.readUInt32BE(0), data.readUInt32BE(4)];
      bytesPerPixel = data[9] === 6 ? 4 : 3;
    } else if (type === 'IDAT') parts.push(data);
    at += FRAME_BYTES + length;
  }
  const bytes = unfilter(inflateSync(Buffer.concat(parts)), width * bytesPerPixel, bytesPerPixel);
  const pixels = new Uint32Array(width * height);
  for (let at = 0; at < pixels.length; at++) pixels[at] = bytes.readUIntBE(at * bytesPerPixel, 3);
  return { width, height, pixels };
}

/** Undoes what each row says was done to it: see PNG's specification, 9.2. */
function unfilter(filtered: Buffer, rowBytes: number, bytesPerPixel: number): Buffer {
  const out = Buffer.alloc((filtered.length / (rowBytes + 1)) * rowBytes);
  for (let at = 0; at < out.length; at++) {
    const [row, column] = [Math.floor(at / rowBytes), at % rowBytes];
    const left = column < bytesPerPixel ? 0 : (out[at - bytesPerPixel] ?? 0);
    const above = out[at - rowBytes] ?? 0;
    const diagonal = column < bytesPerPixel ? 0 : (out[at - rowBytes - bytesPerPixel] ?? 0);
    const guesses = [0, left, above, (left + above) >> 1, paeth(left, above, diagonal)];
    const guess = guesses[filtered[row * (rowBytes + 1)] ?? 0] ?? 0;
    out[at] = (filtered[at + row + 1] ?? 0) + guess;
  }
  return out;
}

function paeth(left: number, above: number, diagonal: number): number {
  const sum = left + above - diagonal;
  const [byLeft, byAbove, byDiagonal] = [left, above, diagonal].map((value) => Math.abs(sum - value));
  if (byLeft === undefined || byAbove === undefined || byDiagonal === undefined) return 0;
  if (byLeft <= byAbove && byLeft <= byDiagonal) return left;
  return byAbove <= byDiagonal ? above : diagonal;
}

function nearest(palette: readonly number[], colour: number): number {
  const distances = palette.map((of) => distanceOf(of, colour));
  return distances.indexOf(Math.min(...distances));
}

function distanceOf(a: number, b: number): number {
  const other = channelsOf(b);
  return channelsOf(a).reduce((sum, value, channel) => sum + (value - (other[channel] ?? 0)) ** 2, 0);
}

function channelsOf(colour: number): number[] {
  return [colour >> 16, (colour >> 8) & 0xff, colour & 0xff];
}

function chunk(type: string, data: Buffer): Buffer {
  const out = Buffer.alloc(FRAME_BYTES + data.length);
  out.writeUInt32BE(data.length, 0);
  out.write(type, 4, 'latin1');
  out.set(data, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

/** Node's own is in none before 22. */
function crc32(bytes: Buffer): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0xedb88320);
  }
  return ~crc >>> 0;
}
