import { Command, CommanderError, Option } from 'commander';
import { parseAddress } from '../config/address.ts';
import { ConfigError } from '../config/config-error.ts';
import { CertificateError } from '../listener/certificates.ts';
import { ListenError } from '../listener/listen.ts';
import { packageVersion } from '../runtime/package-version.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import type { OpsTarget } from './ops.ts';
import { UsageError } from './usage-error.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
/** Wrong use of the command line, or a bad config file. */
export const EXIT_WRONG_USE = 2;

const DEFAULT_CONFIG_FILE = 'site.yaml';

/** Runs one command. @returns the exit code; errors become one line each on stderr, never a stack trace. */
export async function runCli(args: readonly string[], context: CliContext): Promise<number> {
  try {
    await createProgram(context).parseAsync(args, { from: 'user' });
    return EXIT_OK;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_OK : EXIT_WRONG_USE;
    return report(error, context);
  }
}

/** A command's own modules are loaded when it is run: `serve`, which stays, is not to hold what the others need. */
function createProgram(context: CliContext): Command {
  const program = new Command('site-persistence')
    .description('Sends every request to the site that owns its session: an ext_proc sidecar for Envoy.')
    .version(packageVersion())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
    })
    .showHelpAfterError('(see site-persistence --help)')
    .addHelpText('after', '\nExit codes: 0 fine, 1 it failed, 2 wrong use or bad config.');

  command(program, 'serve')
    .description("run the sidecar beside this site's Envoy, until SIGTERM or SIGINT")
    .option('--listen <address>', "instead of the config's listen: host:port or unix:/path")
    .option('--ops-listen <address>', "instead of the config's ops_listen: host:port or unix:/path")
    .option('--watch', 'reload the config when its file changes')
    .addHelpText(
      'after',
      `
SIGHUP reloads the config: no call is lost; a bad file is rejected with its errors in the log, and the old config stays.
Only listeners need a restart. Certificates are read again when their files change.

LOG_LEVEL sets how much is logged: error, warn, info (default) or debug, which logs decisions.`,
    )
    .action(async (options: { config: string; listen?: string; opsListen?: string; watch?: boolean }) => {
      const { serve } = await import('./serve.ts');
      await serve(
        {
          configFile: options.config,
          listen: addressOption('--listen', options.listen),
          opsListen: addressOption('--ops-listen', options.opsListen),
          watch: options.watch === true,
        },
        context,
      );
    });

  command(program, 'envoy')
    .description('print the complete Envoy bootstrap of this site')
    .option('--secrets-to <directory>', "where to write the files of the config's envoy.secrets_dir, if not there")
    .addHelpText('after', '\nTo use it: site-persistence envoy --config site.yaml > envoy.yaml && envoy -c envoy.yaml')
    .action(async (options: { config: string; secretsTo?: string }) => {
      const { printEnvoyConfig } = await import('./envoy.ts');
      await printEnvoyConfig(options.config, options.secretsTo, context);
    });

  command(program, 'check')
    .description('check a config file and say what it means')
    .action(async (options: { config: string }) => {
      const { check } = await import('./check.ts');
      await check(options.config, context);
    });

  command(program, 'doctor')
    .description("check the running Envoy's config: what is missing or unsafe, with the lines to add")
    .option('--json', 'as JSON')
    .addHelpText('after', DOCTOR_HELP)
    .action(async (options: { config: string; json?: boolean }) => {
      const { doctor } = await import('./doctor.ts');
      await doctor(options.config, options.json === true, context);
    });

  const opsOption = ['--ops-listen <address>', "the sidecar's ops listener, if not the config's ops_listen"] as const;
  command(program, 'status')
    .description("show the site's state: pools and servers, draining, decisions a second, last changes")
    .option(...opsOption)
    .addOption(new Option('--json', 'as JSON').conflicts('ready'))
    .option('--ready', 'exit code 1 unless the sidecar is ready, with the reason: for health checks')
    .action(async (options: OpsCommandOptions & { json?: boolean; ready?: boolean }) => {
      const { ready, status } = await import('./ops.ts');
      if (options.ready === true) await ready(ops(options), context);
      else await status(ops(options), options.json === true, context);
    });

  command(program, 'drain')
    .description('take no new clients; sessions of this site are still served')
    .option('--for <duration>', 'end after this time, such as 30m')
    .option(...opsOption)
    .addHelpText('after', '\nA restart of the sidecar ends a drain. With several sidecars, drain each: --ops-listen.')
    .action(async (options: OpsCommandOptions & { for?: string }) => {
      const { drain } = await import('./ops.ts');
      await drain(ops(options), options.for, context);
    });

  command(program, 'undrain')
    .description('end a drain')
    .option(...opsOption)
    .action(async (options: OpsCommandOptions) => {
      const { undrain } = await import('./ops.ts');
      await undrain(ops(options), context);
    });

  program
    .command('import')
    .description('print a config file from the DataScript (Lua) that did this on Avi')
    .argument('<script>', 'the DataScript, or an export of Avi that has it (JSON, Terraform, Ansible)')
    .allowExcessArguments(false)
    .addHelpText(
      'after',
      '\nIt reads the names of cookies and pools and the status URI; the script is never run. What the script does not say\n' +
        'is marked <fill in>, and "site-persistence check" names it by line; what goes beyond the original rules is said on\n' +
        "stderr and in comments. In JSON and in quoted strings, line numbers are the script's own.\n\n" +
        'To use it: site-persistence import site.lua > site.yaml && site-persistence check --config site.yaml\n\n' +
        'Exit codes: 0 fine, 1 the script is not the site-persistence script, 2 wrong use or no Lua script.',
    )
    .action(async (script: string) => {
      const { importScript } = await import('./import.ts');
      await importScript(script, context);
    });

  return program;
}

const DOCTOR_HELP = `
Reads Envoy's admin interface (envoy.admin of the config file), changes nothing. A line for each finding:
  ok     as it must be
  warn   works, but worse than it could, or there was trouble
  WRONG  sessions or requests are lost, or something is unsafe
  ?      could not be checked, and why
Below each finding that is not ok are the lines that fix it: parts of what "site-persistence envoy" prints for the site.

Exit codes: 0 nothing is wrong, 1 something is or Envoy does not answer, 2 wrong use or bad config.`;

interface OpsCommandOptions {
  readonly config: string;
  readonly opsListen?: string;
}

function ops(options: OpsCommandOptions): OpsTarget {
  return { configFile: options.config, opsListen: addressOption('--ops-listen', options.opsListen) };
}

function command(program: Command, name: string): Command {
  return program
    .command(name)
    .option('-c, --config <file>', "the site's config file", DEFAULT_CONFIG_FILE)
    .allowExcessArguments(false);
}

function addressOption(flag: string, value: string | undefined) {
  if (value === undefined) return undefined;
  try {
    return parseAddress(value);
  } catch (error) {
    throw new UsageError(`${flag}: ${JSON.stringify(value)} ${error instanceof Error ? error.message : String(error)}`);
  }
}

function report(error: unknown, context: CliContext): number {
  if (error instanceof ConfigError || error instanceof UsageError || error instanceof CertificateError) {
    context.stderr.write(`${error.message}\n`);
    return EXIT_WRONG_USE;
  }
  if (error instanceof ListenError || error instanceof CommandFailed) {
    context.stderr.write(`${error.message}\n`);
    return EXIT_FAILED;
  }
  const reason = error instanceof Error ? (context.env.LOG_LEVEL === 'debug' ? error.stack : error.message) : error;
  context.stderr.write(`site-persistence: unexpected failure: ${String(reason)}\n`);
  return EXIT_FAILED;
}
