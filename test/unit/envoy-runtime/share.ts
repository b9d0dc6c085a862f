import type { RuntimePart } from '../../../src/envoy-runtime/envoy-runtime.ts';

/** Envoy's runtime as sidecars see it in turn, without what is refused or late. */
export function share(values: Map<string, string>, ...parts: readonly RuntimePart[]): void {
  for (const part of parts) {
    const toWrite = part.plan(values, 0);
    for (const [key, value] of toWrite) values.set(key, value);
    part.written?.(toWrite);
    part.settled(values);
  }
}
