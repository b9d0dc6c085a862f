import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import { loadConfig } from '../config/load.ts';
import { printBootstrap, printSecret } from '../envoy-config/print.ts';
import { readsCertificatesOnce, renderSecrets, type SecretFile } from '../envoy-config/tls.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './run.ts';
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
    await writing(path, async () => {
      // An Envoy that runs sees it by the renaming, and never half of it.
      await writeFile(`${path}.new`, printSecret(content));
      // There is no secret in it, and whoever runs Envoy must read it.
      await chmod(`${path}.new`, 0o644);
      await rename(`${path}.new`, path);
    });
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
