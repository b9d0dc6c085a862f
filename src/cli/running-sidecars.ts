import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Address, parseAddress } from '../config/address.ts';
import { defaultConfigFile } from '../config/default-file.ts';

/** A `serve` that runs on this machine. */
export interface RunningSidecar {
  readonly pid: number;
  /** Its `--ops-listen`; undefined: the config's. */
  readonly opsListen: Address | undefined;
}

/**
 * The sidecars that serve by a config file, found by their command lines in Linux' /proc (proc(5)); none where there is no
 * /proc, or where it hides them.
 */
export async function runningSidecars(configFile: string): Promise<RunningSidecar[]> {
  const wanted = await realPath(resolve(configFile));
  const processes = await readdir('/proc').catch(() => []);
  const found = await Promise.all(
    processes.filter((name) => /^\d+$/.test(name)).map(async (name) => await sidecarOf(Number(name), wanted)),
  );
  return found.filter((sidecar) => sidecar !== null).sort((a, b) => a.pid - b.pid);
}

async function sidecarOf(pid: number, wanted: string): Promise<RunningSidecar | null> {
  try {
    const options = serveOptions((await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0'));
    if (options === null) return null;
    const isAbsolute = options.config?.startsWith('/') === true;
    // Of another user's process it can't be read, and need not be where the path is absolute.
    const directory = isAbsolute ? '/' : await readlink(`/proc/${pid}/cwd`);
    const file = resolve(directory, options.config ?? defaultConfigFile(directory));
    if ((await realPath(file)) !== wanted) return null;
    const { opsListen } = options;
    return { pid, opsListen: opsListen === undefined ? undefined : parseAddress(opsListen) };
  } catch {
    // It has ended meanwhile, or is none of ours.
    return null;
  }
}

/** What a command line says, if it is a sidecar's: `node … /path/main.js serve --config FILE`. */
function serveOptions(words: readonly string[]): { config?: string; opsListen?: string } | null {
  const serve = words.indexOf('serve');
  if (!['main.js', 'site-persistence'].includes(basename(words[serve - 1] ?? ''))) return null;
  const { values } = parseArgs({
    args: words.slice(serve + 1),
    options: { config: { type: 'string', short: 'c' }, 'ops-listen': { type: 'string' } },
    strict: false,
    allowPositionals: true,
  });
  const { config, 'ops-listen': opsListen } = values;
  return {
    ...(typeof config === 'string' ? { config } : {}),
    ...(typeof opsListen === 'string' ? { opsListen } : {}),
  };
}

async function realPath(file: string): Promise<string> {
  return await realpath(file).catch(() => file);
}
