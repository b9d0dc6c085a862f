import { readFile } from 'node:fs/promises';
import { type LuaScript, NotLua, readLuaScript } from '../import/lua-script.ts';
import { findOriginalSettings } from '../import/original-settings.ts';
import { printImportedConfig } from '../import/print-config.ts';
import type { CliContext } from './run.ts';
import { UsageError } from './usage-error.ts';

/**
 * Prints the config file that does what a DataScript with the original rules did; what the script does besides is said
 * on stderr as well. The script is read, never run.
 * @throws UsageError for a file that can't be read or is no Lua
 */
export async function importScript(scriptFile: string, context: CliContext): Promise<void> {
  const settings = findOriginalSettings(await readScript(scriptFile));
  for (const { line, text } of settings.remarks) context.stderr.write(`${scriptFile}:${line}: ${text}\n`);
  context.stdout.write(printImportedConfig(settings, scriptFile));
}

async function readScript(file: string): Promise<LuaScript> {
  try {
    return readLuaScript(await readFile(file, 'latin1'));
  } catch (error) {
    if (error instanceof NotLua) throw new UsageError(`${file} is not a Lua script: ${error.message}`);
    throw new UsageError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
