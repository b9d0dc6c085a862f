/** A size as messages have it: `512 bytes`, `64 KiB`, `2.7 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} bytes`;
  const kib = bytes / 1024;
  if (kib < 1024) return `${round(kib)} KiB`;
  return `${round(kib / 1024)} MiB`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
