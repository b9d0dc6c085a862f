import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const DIRECTORY = fileURLToPath(new URL('../fixtures/fuzz-corpus/', import.meta.url));

export interface CorpusEntry {
  readonly name: string;
  /** A `ProcessingRequest`, or what passes itself off as one. */
  readonly bytes: Buffer;
}

/** Messages that real Envoys sent, and whatever was once found wrong. One a file, in hex with line breaks anywhere. */
export function readCorpus(): CorpusEntry[] {
  return readdirSync(DIRECTORY)
    .filter((name) => name.endsWith('.hex'))
    .map((name) => ({
      name,
      bytes: Buffer.from(readFileSync(DIRECTORY + name, 'ascii').replaceAll(/\s/g, ''), 'hex'),
    }));
}
