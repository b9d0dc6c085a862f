import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { DEFAULT_ENVOY_VERSION, fetchEnvoy } from '../lab/envoy-binary.ts';
import { BUILD, PARTS } from './paths.ts';

const run = promisify(execFile);

/** A tool that is not there; the message says how to get it. */
export class MissingTool extends Error {}

/** What is run, as commands or paths. */
export interface Tools {
  readonly envoy: string;
  readonly haproxy: string;
  /** The Node that runs the sidecar. */
  readonly node: string;
  /** The compiled peer in Go; null where it is not asked for. */
  readonly goExtProc: string | null;
}

export type Versions = Readonly<Record<string, string>>;

/** @throws MissingTool with every tool that is missing and how to get it */
export async function findTools(options: {
  readonly node: string;
  readonly needsGo: boolean;
  readonly needsValgrind?: boolean;
  readonly say: (line: string) => void;
}): Promise<{ readonly tools: Tools; readonly versions: Versions }> {
  const { node, needsGo, needsValgrind = false, say } = options;
  const asked = {
    h2load: await firstLine('h2load', ['--version'], 'apt-get install nghttp2-client, or brew install nghttp2'),
    haproxy: await firstLine('haproxy', ['-v'], 'apt-get install haproxy, or brew install haproxy'),
    node: await firstLine(node, ['--version'], 'name a Node binary: --node PATH'),
    ...(needsGo
      ? { go: await firstLine('go', ['version'], 'https://go.dev/dl; or leave the Go peer out: --only') }
      : {}),
    ...(needsValgrind ? { valgrind: await firstLine('valgrind', ['--version'], 'apt-get install valgrind') } : {}),
  };
  const missing = Object.values(asked).filter((answer) => answer instanceof MissingTool);
  if (missing.length > 0) throw new MissingTool(missing.map((error) => error.message).join('\n'));
  const envoy = await fetchEnvoy(DEFAULT_ENVOY_VERSION, say);
  const goExtProc = needsGo ? await buildGoExtProc(say) : null;
  const versions = {
    ...Object.fromEntries(Object.entries(asked).map(([name, answer]) => [name, numberIn(String(answer))])),
    envoy: numberIn(String(await firstLine(envoy, ['--version'], 'it was fetched'))),
    ...(await packageVersions()),
    ...(goExtProc === null ? {} : await goModuleVersions(goExtProc)),
  };
  return { tools: { envoy, haproxy: 'haproxy', node, goExtProc }, versions };
}

/** The machine that the figures are of. */
export function describeMachine(): Readonly<Record<string, string | number>> {
  const models = cpus().map((cpu) => cpu.model.trim());
  return {
    cpu: models[0] ?? 'unknown',
    cores: models.length,
    memoryGb: Math.round(totalmem() / 1e9),
    kernel: release(),
    arch: process.arch,
  };
}

/** `1.52.0` of `h2load nghttp2/1.52.0`; the whole text where there is no such number. */
function numberIn(text: string): string {
  return /\d+\.\d+\.\d+/.exec(text)?.[0] ?? text;
}

async function firstLine(command: string, args: readonly string[], howToGet: string): Promise<string | MissingTool> {
  try {
    const { stdout } = await run(command, [...args]);
    return (
      stdout
        .split('\n')
        .find((line) => line.trim() !== '')
        ?.trim() ?? ''
    );
  } catch {
    return new MissingTool(`${command} is missing: ${howToGet}`);
  }
}

async function buildGoExtProc(say: (line: string) => void): Promise<string> {
  const binary = `${BUILD}/go-ext-proc`;
  say('building the Go peer');
  try {
    await run('go', ['build', '-o', binary, '.'], { cwd: `${PARTS}/go-ext-proc` });
  } catch (error) {
    const reason = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    throw new Error(`bench/go-ext-proc can't be built:\n${reason}`);
  }
  return binary;
}

/** Of the libraries that ours stands on. */
async function packageVersions(): Promise<Versions> {
  const versionOf = async (file: string) => {
    const parsed: unknown = JSON.parse(await readFile(file, 'utf8'));
    return typeof parsed === 'object' && parsed !== null && 'version' in parsed ? String(parsed.version) : 'unknown';
  };
  const root = `${PARTS}/..`;
  return {
    'site-persistence': await versionOf(`${root}/package.json`),
    '@grpc/grpc-js': await versionOf(`${root}/node_modules/@grpc/grpc-js/package.json`),
  };
}

async function goModuleVersions(binary: string): Promise<Versions> {
  const { stdout } = await run('go', ['version', '-m', binary]);
  const versions: Record<string, string> = {};
  for (const name of ['google.golang.org/grpc', 'github.com/envoyproxy/go-control-plane/envoy']) {
    const line = stdout.split('\n').find((each) => each.includes(`\t${name}\t`));
    versions[name] = line?.split('\t')[3] ?? 'unknown';
  }
  return versions;
}
