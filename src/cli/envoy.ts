import { mkdir, rename, writeFile } from 'node:fs/promises';
import { loadConfig } from '../config/load.ts';
import { printBootstrap, printSecret } from '../envoy-config/print.ts';
import { readsCertificatesOnce, renderSecrets } from '../envoy-config/tls.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './run.ts';

/**
 * Prints the Envoy bootstrap of a site as YAML, and writes the files that it refers to.
 * @throws ConfigError with all that is wrong or missing
 * @throws CommandFailed when a file can't be written
 */
export async function printEnvoyConfig(configFile: string, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile, 'rendering');
  const { secretsDir } = config.envoy;
  if (secretsDir !== null) await writing(secretsDir, () => mkdir(secretsDir, { recursive: true }));
  for (const { path, content } of renderSecrets(config)) {
    // An Envoy that runs sees it by the renaming, and never half of it.
    const unfinished = `${path}.new`;
    await writing(path, () => writeFile(unfinished, printSecret(content)));
    await writing(path, () => rename(unfinished, path));
  }
  if (readsCertificatesOnce(config)) {
    context.stderr.write(
      'note: Envoy reads these certificates at its start only. With envoy.secrets_dir, such as /etc/envoy/secrets, it takes new ones as they come.\n',
    );
  }
  context.stdout.write(printBootstrap(config));
}

async function writing(path: string, write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandFailed(`envoy.secrets_dir: ${path} can't be written: ${why}`, { cause: error });
  }
}
