import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PARTS } from './paths.ts';
import { writePlots } from './plots.ts';
import type { Results } from './results.ts';

const [file = `${PARTS}/results.json`] = process.argv.slice(2);
try {
  const results: Results = JSON.parse(await readFile(file, 'utf8'));
  const directory = join(dirname(file), 'plots');
  const names = await writePlots(results, directory);
  process.stdout.write(`${names.map((name) => join(directory, name)).join('\n')}\n`);
} catch (error) {
  const reason = error instanceof Error ? error.message : String(error);
  process.stderr.write(`bench:plots: ${file}: ${reason}; npm run bench writes one\n`);
  process.exitCode = 2;
}
