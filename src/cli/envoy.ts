import { rm } from 'node:fs/promises';
import { type Config, namesOf } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { examineOverlay } from '../doctor/examine-overlay.ts';
import { printFindings } from '../doctor/report.ts';
import { asResources, PARTS, type PartOptions, renderPart } from '../envoy-config/parts.ts';
import { printBootstrap, printPart, printSecret } from '../envoy-config/print.ts';
import { readsCertificatesOnce, renderSecrets, type SecretFile } from '../envoy-config/tls.ts';
import { makeDirectory, readWatchedFiles, replaceFile, withLock } from '../envoy-files/directory.ts';
import { planFiles } from '../envoy-files/plan.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './usage-error.ts';

export interface EnvoyOptions {
  /** Where to write the files that it refers to, if not where Envoy finds them. */
  readonly secretsTo: string | undefined;
  /** Print it although its overlay breaks what the decision needs. */
  readonly force: boolean;
  /** Null: the whole bootstrap. */
  readonly part: PartChoice | null;
}

export interface PartChoice extends PartOptions {
  /** As a file of an xDS subscription. */
  readonly asXds: boolean;
}

/**
 * Prints the Envoy bootstrap of a site as YAML, and writes the files that it refers to.
 * @throws ConfigError with all that is wrong or missing
 * @throws CommandFailed when a file can't be written, or the overlay breaks what the decision needs
 */
export async function printEnvoyConfig(
  configFile: string,
  { secretsTo, force, part }: EnvoyOptions,
  context: CliContext,
): Promise<void> {
  const config = await loadConfig(configFile, part === null ? 'rendering' : 'parts');
  const printed = part === null ? printBootstrap(config) : printChosen(config, part);
  const directory = secretsTo ?? config.envoy.secretsDir;
  if (config.envoy.secretsDir === null && secretsTo !== undefined) {
    throw new UsageError(
      '--secrets-to: needs envoy.config_dir or envoy.secrets_dir in the config file, which is where Envoy finds them',
    );
  }
  refuseBrokenDecision(config, force, context);
  if (directory !== null) {
    if (config.envoy.configDir === null) await writeSecrets(renderSecrets(config), directory);
    else if (part === null) await writeFiles(config, directory);
  }
  if (readsCertificatesOnce(config)) {
    context.stderr.write(
      'note: Envoy reads these certificates at its start only. With envoy.secrets_dir, such as /etc/envoy/secrets, it takes new ones as they come.\n',
    );
  }
  context.stdout.write(printed);
}

function printChosen(config: Config, { asXds, ...options }: PartChoice): string {
  const { part, application, prefix } = options;
  if (application !== null && !namesOf(config).includes(application)) {
    const names = namesOf(config).join(', ');
    throw new UsageError(`--application: there is no ${application} in the config file: ${names}`);
  }
  const rendered = renderPart(config, options);
  if (!asXds) return printPart(rendered, config, { what: `${part}, ${PARTS[part]}`, prefix });
  const resources = asResources(part, rendered);
  if (resources === null) throw new UsageError(`--xds: is for clusters, listeners and routes, not for ${part}`);
  return printPart(resources, config, { what: `${part}, for path_config_source`, prefix });
}

/** Says on stderr what the overlay makes worse, for stdout is the config. */
function refuseBrokenDecision(config: Config, force: boolean, context: CliContext): void {
  const findings = examineOverlay(config, Date.now());
  if (findings.length > 0) context.stderr.write(printFindings(findings, { colour: false }));
  const wrong = findings.filter(({ mark }) => mark === 'wrong').length;
  if (wrong === 0 || force) return;
  throw new CommandFailed(
    `${config.envoy.overlay?.file} (envoy.overlay) breaks what the decision needs: nothing is printed without --force`,
  );
}

/** At the first start; later the sidecars write them, each when Envoy has the one before. */
async function writeFiles(config: Config, directory: string): Promise<void> {
  await writing(directory, CONFIG_DIR, () =>
    withLock(directory, async () => {
      const { steps, stale } = planFiles(
        config,
        config.envoy.configDir ?? directory,
        await readWatchedFiles(directory),
      );
      for (const { name, text } of steps.flatMap(({ files }) => files)) {
        await writing(`${directory}/${name}`, CONFIG_DIR, () => replaceFile(`${directory}/${name}`, text));
      }
      for (const name of stale) await rm(`${directory}/${name}`, { force: true });
    }),
  );
}

async function writeSecrets(secrets: readonly SecretFile[], directory: string): Promise<void> {
  await writing(directory, SECRETS_DIR, () => makeDirectory(directory));
  for (const { name, content } of secrets) {
    const path = `${directory}/${name}`;
    await writing(path, SECRETS_DIR, () => replaceFile(path, printSecret(content)));
  }
}

const CONFIG_DIR = 'envoy.config_dir';
const SECRETS_DIR = 'envoy.secrets_dir';
type DirectoryKey = typeof CONFIG_DIR | typeof SECRETS_DIR;

async function writing(path: string, key: DirectoryKey, write: () => Promise<unknown>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandFailed(`${path} can't be written, for ${key}: ${why}`, { cause: error });
  }
}
