import { parse } from 'node:path';
import { formatBytes } from '../config/format-bytes.ts';
import { readAtMost } from '../config/read-at-most.ts';
import { whyUnreadable } from '../config/unreadable.ts';
import { applicationNames, describeSharedName, findSharedNames } from '../import/applications.ts';
import { type ImportedScript, importText } from '../import/import-text.ts';
import { printImportedApplications, printImportedConfig } from '../import/print-config.ts';
import { decodeText } from '../import/script-text.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './usage-error.ts';

/** An export of a whole configuration is some megabytes. */
const MAX_FILE_BYTES = 32 * 1024 * 1024;

/**
 * Prints the config file that does what DataScripts with the original rules did; what they do besides is said on stderr as
 * well. Of several scripts each becomes an application. They are read, never run.
 * @throws UsageError if there is a file that can't be read or has no Lua
 * @throws CommandFailed if there is a script of other rules
 */
export async function importScripts(files: readonly string[], context: CliContext): Promise<void> {
  const scripts = await readScripts(files);
  for (const { file, script } of scripts) writeRemarks(file, script, context);

  const [only, ...others] = scripts;
  if (only !== undefined && others.length === 0) {
    const { settings, linesOf } = only.script;
    const source =
      linesOf === null ? only.file : `the script "${linesOf}" in ${only.file}, whose own lines are counted here`;
    context.stdout.write(printImportedConfig(settings, source));
    return;
  }
  const bases = scripts.map(({ file, script, isOnly }) => (isOnly ? null : script.name) ?? basename(file));
  const names = applicationNames(bases);
  for (const [index, name] of names.entries()) {
    if (name === bases[index]) continue;
    context.stderr.write(
      `${scripts[index]?.file}: the application is named ${name}: a name has letters, digits and dashes, and is given once\n`,
    );
  }
  const named = scripts.map((each, index) => ({
    name: names[index] ?? '',
    source: sourceOf(each),
    settings: each.script.settings,
  }));
  for (const each of findSharedNames(named)) context.stderr.write(`${describeSharedName(each)}\n`);
  context.stdout.write(printImportedApplications(named));
}

interface ScriptOfFile {
  readonly file: string;
  readonly script: ImportedScript;
  /** The file has no other. */
  readonly isOnly: boolean;
}

/** Every script of the files. @throws for all files at once that can't be imported */
async function readScripts(files: readonly string[]): Promise<ScriptOfFile[]> {
  const scripts: ScriptOfFile[] = [];
  const errors: (UsageError | CommandFailed)[] = [];
  // One after the other: each may be an export of a whole configuration.
  for (const file of files) {
    try {
      const found = await readScriptsOf(file);
      scripts.push(...found.map((script) => ({ file, script, isOnly: found.length === 1 })));
    } catch (error) {
      if (!(error instanceof UsageError || error instanceof CommandFailed)) throw error;
      errors.push(error);
    }
  }
  if (errors.length === 0) return scripts;
  const message = errors.map((error) => error.message).join('\n');
  throw errors.some((error) => error instanceof UsageError) ? new UsageError(message) : new CommandFailed(message);
}

async function readScriptsOf(file: string): Promise<readonly ImportedScript[]> {
  const imported = importText(await readText(file));
  if (imported.kind === 'unreadable') throw new UsageError(`${file} ${imported.why}`);
  if (imported.kind === 'other') throw new CommandFailed(`${file}: ${imported.why}`);
  return imported.scripts;
}

function writeRemarks(file: string, { settings, linesOf }: ImportedScript, context: CliContext): void {
  for (const { line, text } of settings.remarks) {
    const place = line === null ? '' : linesOf === null ? `:${line}` : ` (script "${linesOf}", line ${line})`;
    context.stderr.write(`${file}${place}: ${text}\n`);
  }
}

function sourceOf({ file, script: { linesOf } }: ScriptOfFile): string {
  return linesOf === null
    ? `${file}: line numbers are of this file`
    : `the script "${linesOf}" in ${file}: line numbers are the script's own`;
}

/** Of a file, without what tells its type. */
function basename(file: string): string {
  return parse(file).name;
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
