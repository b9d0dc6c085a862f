import { isUtf8 } from 'node:buffer';
import type { z } from 'zod';
import { isIpAddress } from './address.ts';
import type { Config } from './config.ts';
import { ConfigError, MAX_MISTAKES_TOLD, shorten } from './config-error.ts';
import { formatBytes } from './format-bytes.ts';
import { readAtMost } from './read-at-most.ts';
import { configSchema } from './schema.ts';
import { whyUnreadable } from './unreadable.ts';
import { readYaml } from './yaml.ts';

/** Thousands of servers, and little enough that whatever is in it is read in a few seconds. */
const MAX_FILE_BYTES = 512 * 1024;

/** Of a key, a value or a name. */
const MAX_QUOTED_LENGTH = 60;

/**
 * Reads and checks a config file.
 * @param needs `rendering`: what only `envoy` needs (servers, envoy.listen) must be there too
 * @throws ConfigError that names the mistakes with their lines
 */
export async function loadConfig(file: string, needs: 'names' | 'rendering' = 'names'): Promise<Config> {
  const bytes = await readWhole(file);
  if (!isUtf8(bytes)) throw new ConfigError(file, [{ line: firstLineNotUtf8(bytes), message: 'is not UTF-8 text' }]);
  return parseConfig(bytes.toString(), file, needs);
}

async function readWhole(file: string): Promise<Buffer> {
  const { bytes, size } = await readAtMost(file, MAX_FILE_BYTES).catch((error: unknown) => {
    const fix = { missing: 'name the config file with --config FILE', directory: 'name a YAML file' };
    throw new ConfigError(file, [{ line: null, message: whyUnreadable(error, fix) }]);
  });
  if (size === bytes.length) return bytes;
  const has = size === null ? 'more than that' : formatBytes(size);
  const message = `is too large: a config file has at most ${formatBytes(MAX_FILE_BYTES)}, and this is ${has}`;
  throw new ConfigError(file, [{ line: null, message }]);
}

/** {@link loadConfig} for a text already read; `file` is only for messages. */
export function parseConfig(text: string, file: string, needs: 'names' | 'rendering' = 'names'): Config {
  const { value, lineOf } = readYaml(text, file);
  const result = configSchema.safeParse(value, { reportInput: true });
  const problems = result.success
    ? needs === 'rendering'
      ? missingForRendering(result.data)
      : []
    : result.error.issues.flatMap(describeIssue);
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
  return result.data;
}

type Path = readonly PropertyKey[];

interface PathProblem {
  readonly path: Path;
  readonly message: string;
}

function missingForRendering(config: Config): PathProblem[] {
  const problems: PathProblem[] = [];
  const need = (path: Path, missing: boolean, example: string) => {
    if (missing) problems.push({ path, message: `is missing: an Envoy config needs it, such as ${example}` });
  };
  need(['local_pool', 'servers'], config.localPool.servers.length === 0, '[127.0.0.1:3001]');
  config.remotePools.forEach((pool, index) => {
    need(['remote_pools', index, 'servers'], pool.servers.length === 0, '[west.example.com:443]');
  });
  need(['envoy', 'listen'], config.envoy.listen === null, '0.0.0.0:8080');
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

function quote(text: string): string {
  // Cut before it is quoted, for it may be as long as the file.
  const quoted = JSON.stringify(text.slice(0, MAX_QUOTED_LENGTH));
  return quoted.length > MAX_QUOTED_LENGTH ? `${shorten(quoted, MAX_QUOTED_LENGTH - 2)}"` : quoted;
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

/** `remote_pools[0].cookie.name` */
function formatPath(path: Path): string {
  return path
    .map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index > 0 ? '.' : ''}${formatKey(String(key))}`))
    .join('');
}

function formatKey(key: string): string {
  return key.length <= MAX_QUOTED_LENGTH && /^[\w<-]+$/.test(key) ? key : quote(key);
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
