import { isUtf8 } from 'node:buffer';
import type { z } from 'zod';
import { isIpAddress } from './address.ts';
import type { ApplicationConfig, Config } from './config.ts';
import { ConfigError, MAX_MISTAKES_TOLD } from './config-error.ts';
import { type CookieKeys, parseCookieKeys } from './cookie-keys.ts';
import { formatBytes } from './format-bytes.ts';
import { formatPath, quote } from './format-path.ts';
import { besideConfigFile, type Overlay } from './overlay.ts';
import { readAtMost } from './read-at-most.ts';
import { hasApplications, parseConfigFile } from './schema.ts';
import { whyUnreadable } from './unreadable.ts';
import { readYaml, type YamlFile } from './yaml.ts';

/** Thousands of servers, and little enough that whatever is in it is read in a few seconds. */
const MAX_FILE_BYTES = 512 * 1024;

/**
 * Reads and checks a config file.
 * @param needs `rendering`: what only `envoy` needs (servers, envoy.listen) must be there too; `parts`: all but envoy.listen
 * @throws ConfigError that names the mistakes with their lines
 */
export async function loadConfig(file: string, needs: Needs = 'names'): Promise<Config> {
  return (await loadWithLines(file, needs)).config;
}

/** A config, and where its keys stand in the file. */
export interface ConfigWithLines {
  readonly config: Config;
  /** Of an application's key `FILE:LINE: KEY`, as errors begin. @param index the application's place in the list */
  readonly placeOf: (index: number, key: Path) => string;
}

/** {@link loadConfig} for a command that has more to say of a config than that it is right. */
export async function loadWithLines(file: string, needs: Needs = 'names'): Promise<ConfigWithLines> {
  const text = await readText(file, 'a config file', 'name the config file with --config FILE', (message) => {
    return new ConfigError(file, [{ line: null, message }]);
  });
  const { config, lineOf, toApplication } = parse(text, file, needs);
  const placeOf = (index: number, key: Path) => {
    const path = [...toApplication(index), ...key];
    return `${file}:${lineOf(path)}: ${formatPath(path)}`;
  };
  const readKeysOf = async (application: ApplicationConfig, index: number) => {
    return await withKeys(application, file, (message) => {
      const path = [...toApplication(index), 'local_pool', 'cookie', 'opaque', 'key_file'];
      return new ConfigError(file, [{ line: lineOf(path), message: `${formatPath(path)}: ${message}` }]);
    });
  };
  const read = { ...config, applications: await Promise.all(config.applications.map(readKeysOf)) };
  const { overlay } = config.envoy;
  if (overlay === null) return { config: read, placeOf };
  const content = await readOverlay(overlay, file, (message) => {
    const line = lineOf(['envoy', 'overlay']);
    return new ConfigError(file, [{ line, message: `envoy.overlay: ${quote(overlay.file)} ${message}` }]);
  });
  return { config: { ...read, envoy: { ...config.envoy, overlay: content } }, placeOf };
}

/** The application with the keys of its cookie. @param fail makes the error of what is said of the file as a whole */
async function withKeys(
  application: ApplicationConfig,
  configFile: string,
  fail: (message: string) => Error,
): Promise<ApplicationConfig> {
  const { localPool } = application;
  const { opaque } = localPool.cookie;
  if (opaque === null) return application;
  const keyFile = await readKeys(opaque.keyFile, configFile, fail);
  return {
    ...application,
    localPool: { ...localPool, cookie: { ...localPool.cookie, opaque: { ...opaque, keyFile } } },
  };
}

async function readKeys(unread: CookieKeys, configFile: string, fail: (message: string) => Error): Promise<CookieKeys> {
  const file = besideConfigFile(unread.file, configFile);
  const missing = `its path counts from the config file, so it would be ${file}`;
  const text = await readText(file, 'a key file', missing, (message) => fail(`${quote(unread.file)} ${message}`));
  const { keys, problems } = parseCookieKeys(text);
  if (problems.length > 0) throw new ConfigError(file, problems);
  return { ...unread, file, text, keys };
}

async function readOverlay(overlay: Overlay, configFile: string, fail: (message: string) => Error): Promise<Overlay> {
  const file = besideConfigFile(overlay.file, configFile);
  const text = await readText(file, 'an overlay', `its path counts from the config file, so it would be ${file}`, fail);
  return { ...overlay, file, text, content: readYaml(text, file, OVERLAY_START).value };
}

/** How an overlay begins, as Envoy's bootstrap does. */
const OVERLAY_START = 'static_resources:';

/** @param fail makes the error of what is said of the file as a whole */
async function readText(
  file: string,
  what: string,
  missing: string,
  fail: (message: string) => Error,
): Promise<string> {
  const { bytes, size } = await readAtMost(file, MAX_FILE_BYTES).catch((error: unknown) => {
    throw fail(whyUnreadable(error, { missing, directory: 'name a YAML file' }));
  });
  if (size !== bytes.length) {
    const has = size === null ? 'more than that' : formatBytes(size);
    throw fail(`is too large: ${what} has at most ${formatBytes(MAX_FILE_BYTES)}, and this is ${has}`);
  }
  if (!isUtf8(bytes)) throw new ConfigError(file, [{ line: firstLineNotUtf8(bytes), message: 'is not UTF-8 text' }]);
  return bytes.toString();
}

/** What must be there beside the names: for the whole of Envoy's config, or for parts of one that somebody else has. */
export type Needs = 'names' | 'parts' | 'rendering';

/** {@link loadConfig} for a text already read, without an overlay's content; `file` is only for messages. */
export function parseConfig(text: string, file: string, needs: Needs = 'names'): Config {
  return parse(text, file, needs).config;
}

interface Parsed {
  readonly config: Config;
  readonly lineOf: YamlFile['lineOf'];
  readonly toApplication: (index: number) => Path;
}

function parse(text: string, file: string, needs: Needs): Parsed {
  const { value, lineOf } = readYaml(text, file);
  const result = parseConfigFile(value);
  const problems = result.success ? missing(result.data, value, needs) : result.error.issues.flatMap(describeIssue);
  if (!result.success || problems.length > 0) {
    const told = problems
      // To find a line takes a search, so only for those that are told.
      .slice(0, MAX_MISTAKES_TOLD)
      .map(({ path, message }) => ({
        line: lineOf(path),
        message: `${path.length === 0 ? 'the file' : formatPath(path)}: ${message}`,
      }))
      .sort((a, b) => a.line - b.line);
    throw new ConfigError(file, told, problems.length - told.length);
  }
  return { config: result.data, lineOf, toApplication: (index) => toApplication(value, index) };
}

type Path = readonly PropertyKey[];

interface PathProblem {
  readonly path: Path;
  readonly message: string;
}

function missing(config: Config, value: unknown, needs: Needs): PathProblem[] {
  // What Envoy watches is rendered at each reload.
  if (config.envoy.configDir !== null) return missingForRendering(config, value, 'rendering');
  return needs === 'names' ? [] : missingForRendering(config, value, needs);
}

/** The way to the keys of an application. @param value what the file has */
function toApplication(value: unknown, index: number): Path {
  return hasApplications(value) ? ['applications', index] : [];
}

/** @param value what the file has */
function missingForRendering(config: Config, value: unknown, needs: Needs): PathProblem[] {
  const problems: PathProblem[] = [];
  const need = (path: Path, missing: boolean, example: string) => {
    if (missing) problems.push({ path, message: `is missing: an Envoy config needs it, such as ${example}` });
  };
  config.applications.forEach(({ localPool, remotePools }, index) => {
    const base = toApplication(value, index);
    need([...base, 'local_pool', 'servers'], localPool.servers.length === 0, '[127.0.0.1:3001]');
    remotePools.forEach((pool, at) => {
      if (pool.healthCluster !== undefined) {
        const message =
          'is for an Envoy with a config of its own: leave it out, for here the site is checked in its cluster';
        problems.push({ path: [...base, 'remote_pools', at, 'health_cluster'], message });
      }
      need([...base, 'remote_pools', at, 'servers'], pool.servers.length === 0, '[west.example.com:443]');
    });
  });
  need(['envoy', 'listen'], needs === 'rendering' && config.envoy.listen === null, '0.0.0.0:8080');
  const { admin } = config.envoy;
  if (admin.kind === 'tcp' && !isIpAddress(admin.host)) {
    // The sidecar alone could look a name up.
    const message = `must be an IP address, because Envoy listens there: write http://127.0.0.1:${admin.port}`;
    problems.push({ path: ['envoy', 'admin'], message });
  }
  if (config.listenTls !== null) {
    const tls = config.envoy.sidecarTls;
    const example = '{ sni: sidecar.example.com, ca_file: ca.pem, cert_file: envoy.pem, key_file: envoy.key }';
    need(['envoy', 'sidecar_tls'], tls === null, example);
    need(['envoy', 'sidecar_tls', 'cert_file'], tls !== null && tls.certFile === null, '/etc/envoy/envoy.pem');
  }
  return problems;
}

function describeIssue(issue: z.core.$ZodIssue): PathProblem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...issue.path, key], message: issue.message }));
  }
  return [{ path: issue.path, message: `${quoteInput(issue)}${describeProblem(issue)}` }];
}

/** The value as written, where it is short enough to help. */
function quoteInput(issue: z.core.$ZodIssue): string {
  const { input } = issue;
  if (typeof input === 'string') return `${quote(input)} `;
  return typeof input === 'number' || typeof input === 'boolean' ? `${input} ` : '';
}

function describeProblem(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) {
    return issue.input === undefined
      ? `is missing: it must be ${nameOfType(issue.expected)}`
      : `must be ${nameOfType(issue.expected)}`;
  }
  if (issue.code === 'invalid_value') {
    return issue.message.startsWith('Invalid') ? `must be one of ${issue.values.join(', ')}` : issue.message;
  }
  return issue.message;
}

function nameOfType(expected: string): string {
  switch (expected) {
    case 'object':
      return 'a mapping';
    case 'array':
      return 'a list';
    case 'string':
      return 'text';
    case 'boolean':
      return 'true or false';
    case 'int':
    case 'number':
      return 'a whole number';
    default:
      return expected;
  }
}

function firstLineNotUtf8(bytes: Buffer): number {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const newline = bytes.indexOf('\n', start);
    const end = newline === -1 ? bytes.length : newline;
    if (!isUtf8(bytes.subarray(start, end))) return line;
    start = end + 1;
  }
  return line;
}
