import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { loadConfig } from '../config/load.ts';
import { printBootstrap, printSecret } from '../envoy-config/print.ts';
import { readsCertificatesOnce, renderSecrets, type SecretFile } from '../envoy-config/tls.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './usage-error.ts';

/**
 * Prints the Envoy bootstrap of a site as YAML, and writes the files that it refers to.
 * @param secretsTo where to write them, if not where Envoy finds them
 * @throws ConfigError with all that is wrong or missing
 * @throws CommandFailed when a file can't be written
 */
export async function printEnvoyConfig(
  configFile: string,
  secretsTo: string | undefined,
  context: CliContext,
): Promise<void> {
  const config = await loadConfig(configFile, 'rendering');
  const directory = secretsTo ?? config.envoy.secretsDir;
  if (config.envoy.secretsDir === null && secretsTo !== undefined) {
    throw new UsageError('--secrets-to: needs envoy.secrets_dir in the config file, which is where Envoy finds them');
  }
  if (directory !== null) await writeSecrets(renderSecrets(config), directory);
  if (readsCertificatesOnce(config)) {
    context.stderr.write(
      'note: Envoy reads these certificates at its start only. With envoy.secrets_dir, such as /etc/envoy/secrets, it takes new ones as they come.\n',
    );
  }
  context.stdout.write(printBootstrap(config));
}

/** Makes the directory, but none above it, which would be somebody's mistake. */
async function writeSecrets(secrets: readonly SecretFile[], directory: string): Promise<void> {
  await writing(directory, async () => {
    await mkdir(directory).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    });
  });
  for (const { name, content } of secrets) {
    const path = `${directory}/${name}`;
    await writing(path, () => replaceFile(path, printSecret(content)));
  }
}

/** A running Envoy sees the file by the rename, and never half of it. */
async function replaceFile(path: string, text: string): Promise<void> {
  // Exclusively and under a name that nobody can guess: a link that waits there would be written through.
  const temporary = `${path}.${randomBytes(8).toString('hex')}.new`;
  const file = await open(temporary, 'wx', 0o644);
  try {
    await fill(file, text);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function fill(file: FileHandle, text: string): Promise<void> {
  try {
    await file.writeFile(text);
    // Whatever the umask: there is no secret in it, and Envoy may run as another user.
    await file.chmod(0o644);
  } finally {
    await file.close();
  }
}

async function writing(path: string, write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandFailed(`${path} can't be written, for envoy.secrets_dir: ${why}`, { cause: error });
  }
}
