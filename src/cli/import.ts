import { formatBytes } from '../config/format-bytes.ts';
import { readAtMost } from '../config/read-at-most.ts';
import { whyUnreadable } from '../config/unreadable.ts';
import { importText } from '../import/import-text.ts';
import { printImportedConfig } from '../import/print-config.ts';
import { decodeText } from '../import/script-text.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './usage-error.ts';

/** An export of a whole configuration is some megabytes. */
const MAX_FILE_BYTES = 32 * 1024 * 1024;

/**
 * Prints the config file that does what a DataScript with the original rules did; what the script does besides is said
 * on stderr as well. The script is read, never run.
 * @throws UsageError for a file that can't be read or has no Lua
 * @throws CommandFailed for a script of other rules
 */
export async function importScript(file: string, context: CliContext): Promise<void> {
  const imported = importText(await readText(file));
  if (imported.kind === 'unreadable') throw new UsageError(`${file} ${imported.why}`);
  if (imported.kind === 'other') throw new CommandFailed(`${file}: ${imported.why}`);

  const { settings, linesOf } = imported;
  for (const { line, text } of settings.remarks) {
    const place = line === null ? '' : linesOf === null ? `:${line}` : ` (script "${linesOf}", line ${line})`;
    context.stderr.write(`${file}${place}: ${text}\n`);
  }
  const source = linesOf === null ? file : `the script "${linesOf}" in ${file}, whose own lines are counted here`;
  context.stdout.write(printImportedConfig(settings, source));
}

async function readText(file: string): Promise<string> {
  let bytes: Buffer;
  try {
    const start = await readAtMost(file, MAX_FILE_BYTES);
    if (start.size !== start.bytes.length) {
      throw new UsageError(
        `${file} is longer than the limit of ${formatBytes(MAX_FILE_BYTES)}: take the script out of it`,
      );
    }
    bytes = start.bytes;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot import ${file}: ${whyUnreadable(error, { directory: 'name a Lua file' })}`);
  }
  const text = decodeText(bytes);
  if (text === null) throw new UsageError(`${file} is not a text file: it has a NUL byte`);
  return text;
}
