import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import type { Config } from './config.ts';
import { ConfigError } from './config-error.ts';
import { configSchema } from './schema.ts';
import { whyUnreadable } from './unreadable.ts';
import { readYaml } from './yaml.ts';

/**
 * Reads and checks a config file.
 * @param needs `rendering`: what only `envoy` needs (servers, envoy.listen) must be there too
 * @throws ConfigError that names every mistake with its line
 */
export async function loadConfig(file: string, needs: 'names' | 'rendering' = 'names'): Promise<Config> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    const mend = { missing: 'name the config file with --config FILE', directory: 'name a YAML file' };
    throw new ConfigError(file, [{ line: null, message: whyUnreadable(error, mend) }]);
  }
  if (!isUtf8(bytes)) throw new ConfigError(file, [{ line: firstLineNotUtf8(bytes), message: 'is not UTF-8 text' }]);
  return parseConfig(bytes.toString(), file, needs);
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
    throw new ConfigError(
      file,
      problems
        .map(({ path, message }) => ({
          line: lineOf(path),
          message: `${path.length === 0 ? 'the file' : formatPath(path)}: ${message}`,
        }))
        .sort((a, b) => a.line - b.line),
    );
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
  if (typeof input === 'string' || typeof input === 'number' || typeof input === 'boolean') {
    const quoted = typeof input === 'string' ? JSON.stringify(input) : String(input);
    return quoted.length > 60 ? `${quoted.slice(0, 57)}…" ` : `${quoted} `;
  }
  return '';
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
  return /^[\w<-]+$/.test(key) ? key : JSON.stringify(key);
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
