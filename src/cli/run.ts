import { Command, CommanderError, Option } from 'commander';
import { parseAddress } from '../config/address.ts';
import { ConfigError } from '../config/config-error.ts';
import { defaultConfigFile, SYSTEM_CONFIG_FILE } from '../config/default-file.ts';
import { parseDurationMs } from '../config/duration.ts';
import type { Part } from '../envoy-config/parts.ts';
import { CertificateError } from '../listener/certificates.ts';
import { ListenError } from '../listener/listen.ts';
import { packageVersion } from '../runtime/package-version.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import type { PartChoice } from './envoy.ts';
import type { OpsTarget } from './ops.ts';
import { UsageError } from './usage-error.ts';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
/** Wrong use of the command line, or a bad config file. */
export const EXIT_WRONG_USE = 2;

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
    .option('--metrics-listen <address>', "instead of the config's metrics_listen: host:port or unix:/path")
    .option('--watch', 'reload the config when its file or its overlay changes')
    .addHelpText(
      'after',
      `
SIGHUP, or "site-persistence reload", reloads the config: no call is lost; a bad file is rejected with its errors in the log, and the old config stays.
Only listeners need a restart. Certificates are read again when their files change.

LOG_LEVEL sets how much is logged: error, warn, info (default) or debug, which logs decisions.`,
    )
    .action(async (options: ServeCommandOptions) => {
      const { serve } = await import('./serve.ts');
      await serve(
        {
          configFile: options.config,
          listen: addressOption('--listen', options.listen),
          opsListen: addressOption('--ops-listen', options.opsListen),
          metricsListen: addressOption('--metrics-listen', options.metricsListen),
          watch: options.watch === true,
        },
        context,
      );
    });

  command(program, 'envoy')
    .description('print the complete Envoy bootstrap of this site')
    .option('--secrets-to <directory>', "where to write the files of the config's envoy.secrets_dir, if not there")
    .option('--force', "even when the config's envoy.overlay breaks what the decision needs")
    .addOption(
      new Option('--only <part>', 'print this part alone, for an Envoy with a config of its own').choices([
        ...['bootstrap', 'clusters', 'listeners', 'manager', 'filters', 'routes'],
      ]),
    )
    .option('--application <name>', 'with --only: leave out what is of other applications')
    .option(
      '--prefix <text>',
      'with --only: before names of clusters and listeners that are not named in the config file',
    )
    .option('--xds', 'with --only: as a file that Envoy watches (path_config_source)')
    .addHelpText('after', ENVOY_HELP)
    .action(async (options: EnvoyCommandOptions) => {
      const { printEnvoyConfig } = await import('./envoy.ts');
      const { config, secretsTo, force = false } = options;
      await printEnvoyConfig(config, { secretsTo, force, part: partOption(options) }, context);
    });

  command(program, 'check')
    .description('check a config file and say what it means')
    .action(async (options: { config: string }) => {
      const { check } = await import('./check.ts');
      await check(options.config, context);
    });

  command(program, 'doctor')
    .description("check the running Envoy's config: what is missing or unsafe, with the lines to add")
    .option(
      '--config-dump <file>',
      'check this instead: a saved answer to GET /config_dump, or a bootstrap (YAML or JSON)',
    )
    .option('--json', 'as JSON')
    .addHelpText('after', DOCTOR_HELP)
    .action(async (options: { config: string; configDump?: string; json?: boolean }) => {
      const { doctor } = await import('./doctor.ts');
      await doctor(options.config, { configDump: options.configDump, asJson: options.json === true }, context);
    });

  const opsOption = ['--ops-listen <address>', "the sidecar's ops listener, if not the config's ops_listen"] as const;
  command(program, 'status')
    .description("show the site's state: pools and servers, draining, decisions a second, last changes")
    .argument('[applications...]', 'show these alone, by name, with their pools and changes')
    .option(...opsOption)
    .addOption(new Option('--json', 'as JSON').conflicts('ready'))
    .option('--ready', 'exit code 1 unless the sidecar is ready, with the reason: for health checks')
    .option(
      '--all',
      'ask the other sites as well (remote_pools[].ops_url): which sites each site takes for up, and where they disagree',
    )
    .option('--wait <duration>', 'with --ready: wait up to this long until it is, such as 10s')
    .action(async (applications: string[], options: OpsCommandOptions & StatusCommandOptions) => {
      const { ready, status } = await import('./ops.ts');
      if (options.ready === true && applications.length > 0) {
        throw new UsageError('--ready is about the sidecar: leave the applications out');
      }
      if (options.all === true) {
        if (options.ready === true || options.json === true)
          throw new UsageError('--all: leave --ready and --json out');
        const { statusOfAll } = await import('./status-of-all.ts');
        return await statusOfAll(ops(options), applications, context);
      }
      if (options.wait !== undefined && options.ready !== true) throw new UsageError('--wait: is for --ready: add it');
      if (options.ready === true) await ready(ops(options), durationOption('--wait', options.wait), context);
      else await status(ops(options), applications, options.json === true, context);
    });

  command(program, 'explain')
    .description(
      'say what would become of a request now: the decision and why, its route, its cookies; nothing is sent',
    )
    .argument('<path>', 'the path, such as /cart')
    .option('--host <host>', 'the Host; default: none, for which envoy.default_host stands')
    .option('--cookie <cookies>', "the Cookie header, such as 'KVAAVROI=x; theme=dark'")
    .option('--hop <site>', 'as a request that this site has forwarded')
    .option(...opsOption)
    .action(async (path: string, options: OpsCommandOptions & ExplainCommandOptions) => {
      const { explain } = await import('./explain.ts');
      const { host, cookie, hop } = options;
      await explain(ops(options), { path, host, cookie, hop: parsedOption('--hop', hop, siteName) }, context);
    });

  command(program, 'drain')
    .description('take no new clients; sessions of this site are still served')
    .argument('[applications...]', 'which ones to drain, by name; default: all')
    .option('--for <duration>', 'end after this time, such as 30m')
    .option('--evict', "also move this site's sessions: other sites adopt each with its next request")
    .option('--reason <text>', 'for the log, status and the page: who drains, and why')
    .option('--force', 'even when no other site is up')
    .option(...opsOption)
    .addHelpText('after', DRAIN_HELP)
    .action(async (applications: string[], options: OpsCommandOptions & DrainCommandOptions) => {
      const { drain } = await import('./ops.ts');
      const { for: duration, reason, evict = false, force = false } = options;
      await drain(ops(options), applications, { for: duration, reason, evict, force }, context);
    });

  command(program, 'undrain')
    .description('end a drain')
    .argument('[applications...]', 'whose drain to end, by name; default: all')
    .option(...opsOption)
    .action(async (applications: string[], options: OpsCommandOptions) => {
      const { undrain } = await import('./ops.ts');
      await undrain(ops(options), applications, context);
    });

  command(program, 'hold')
    .description('treat another site as down, whatever its health checks say, until it is released')
    .argument('<site>', 'the other site, as remote_pools has it')
    .argument('[applications...]', 'for which ones, by name; default: all that it serves')
    .requiredOption('--reason <text>', 'for the log, status and the page: who holds it, and why')
    .option('--for <duration>', 'end after this time, such as 2h')
    .option('--force', "even when this site's clients would have nowhere to go")
    .option(...opsOption)
    .addHelpText('after', HOLD_HELP)
    .action(async (site: string, applications: string[], options: OpsCommandOptions & HoldCommandOptions) => {
      const { hold } = await import('./ops.ts');
      const { for: duration, reason, force = false } = options;
      await hold(ops(options), { site, applications }, { for: duration, reason, force }, context);
    });

  command(program, 'release')
    .description('end a hold')
    .argument('<site>', 'the other site')
    .argument('[applications...]', 'for which ones, by name; default: all')
    .option(...opsOption)
    .action(async (site: string, applications: string[], options: OpsCommandOptions) => {
      const { release } = await import('./ops.ts');
      await release(ops(options), { site, applications }, context);
    });

  command(program, 'reload')
    .description('make the running sidecars reload this config file, as SIGHUP does, and print each result')
    .option('--ops-listen <address>', 'only the sidecar with this ops listener')
    .addHelpText('after', RELOAD_HELP)
    .action(async (options: OpsCommandOptions) => {
      const { reload } = await import('./reload.ts');
      await reload(ops(options), context);
    });

  program
    .command('import')
    .description('print a config file from the DataScripts (Lua) that did this on Avi')
    .argument('<scripts...>', 'a DataScript, or an export of Avi that has it (JSON, Terraform, Ansible); or several')
    .addHelpText(
      'after',
      '\nIt reads the names of cookies and pools and the status URI; the script is never run. What the script does not say\n' +
        'is marked <fill in>, and "site-persistence check" names it by line; what goes beyond the original rules is said on\n' +
        "stderr and in comments. In JSON and in quoted strings, line numbers are the script's own.\n\n" +
        'Of several scripts, in files of their own or in one export, each becomes an application: named after its file, or in\n' +
        'an export after its DataScript set, with its hosts to fill in. If one of the files cannot be imported, nothing is\n' +
        'printed.\n\n' +
        'To use it: site-persistence import site.lua > site.yaml && site-persistence check --config site.yaml\n' +
        '       or: site-persistence import shop.lua mail.lua > site.yaml\n\n' +
        'Exit codes: 0 fine, 1 a script is not the site-persistence script, 2 wrong use or no Lua script.',
    )
    .action(async (scripts: string[]) => {
      const { importScripts } = await import('./import.ts');
      await importScripts(scripts, context);
    });

  return program;
}

const ENVOY_HELP = `
To use it: site-persistence envoy --config site.yaml > envoy.yaml && envoy -c envoy.yaml

Parts, for --only: bootstrap (the runtime and an extension), clusters, listeners (the internal ones, and the edge where the
config file has envoy.listen), manager (settings of the connection manager), filters, routes (virtual hosts).

What envoy.overlay of the config file breaks or makes worse is said on stderr, as doctor says it.

Exit codes: 0 fine, 1 the overlay breaks what the decision needs or a file can't be written, 2 wrong use or bad config.`;

const DOCTOR_HELP = `
Reads Envoy's admin interface (envoy.admin of the config file), changes nothing. With --config-dump no Envoy is asked, and
what only a running one shows is marked ?. A line for each finding:
  ok     as it must be
  warn   works, but worse than it could, or there was trouble
  WRONG  sessions or requests are lost, or something is unsafe
  ?      could not be checked, and why
Below each finding that is not ok are the lines that fix it: parts of what "site-persistence envoy" prints for the site.

Exit codes: 0 nothing is wrong, 1 something is or Envoy does not answer, 2 wrong use or bad config.`;

const DRAIN_HELP = `
All sidecars of this Envoy drain. The drain is kept in Envoy's runtime: restarts of sidecars do not end it, and after a
restart of Envoy a running sidecar sets it again. "drain: true" in the config file drains until it is taken out.

Exit codes: 0 it drains, 1 it does not: no other site is up (see --force), or no sidecar answers; 2 wrong use or bad config.`;

const HOLD_HELP = `
Requests of its sessions are served here (on_owner_down), and what it forwards to this site as ever. It is held at this site
alone, by all sidecars of this Envoy. The hold is kept in Envoy's runtime: restarts of sidecars do not end it, and after a
restart of Envoy a running sidecar sets it again.

Exit codes: 0 it is held, 1 it is not: clients would have nowhere to go (see --force), or no sidecar answers; 2 wrong use or
bad config.`;

const RELOAD_HELP = `
The sidecars are found by their command line on this machine, whatever their ops listeners are. No call is lost; a bad file
is rejected with its errors, and the old config stays.

Exit codes: 0 all have the config, 1 one of them has not, or there is none; 2 wrong use or bad config: none was asked.`;

interface ServeCommandOptions {
  readonly config: string;
  readonly listen?: string;
  readonly opsListen?: string;
  readonly metricsListen?: string;
  readonly watch?: boolean;
}

interface ExplainCommandOptions {
  readonly host?: string;
  readonly cookie?: string;
  readonly hop?: string;
}

interface StatusCommandOptions {
  readonly json?: boolean;
  readonly ready?: boolean;
  readonly all?: boolean;
  readonly wait?: string;
}

interface EnvoyCommandOptions {
  readonly config: string;
  readonly secretsTo?: string;
  readonly force?: boolean;
  readonly only?: Part;
  readonly application?: string;
  readonly prefix?: string;
  readonly xds?: boolean;
}

function partOption({ only, application, prefix = '', xds = false }: EnvoyCommandOptions): PartChoice | null {
  if (only === undefined) {
    const alone = Object.entries({ '--application': application, '--prefix': prefix, '--xds': xds });
    const [flag] = alone.find(([, value]) => Boolean(value)) ?? [];
    if (flag !== undefined) throw new UsageError(`${flag}: is for parts: add --only PART`);
    return null;
  }
  if (!/^[\w.-]{0,32}$/.test(prefix)) {
    throw new UsageError(
      `--prefix: ${JSON.stringify(prefix)} is not up to 32 letters, digits, dots, dashes or underscores`,
    );
  }
  return { part: only, application: application ?? null, prefix, asXds: xds };
}

interface DrainCommandOptions {
  readonly for?: string;
  readonly reason?: string;
  readonly evict?: boolean;
  readonly force?: boolean;
}

interface HoldCommandOptions {
  readonly for?: string;
  readonly reason: string;
  readonly force?: boolean;
}

interface OpsCommandOptions {
  readonly config: string;
  readonly opsListen?: string;
}

function ops(options: OpsCommandOptions): OpsTarget {
  return { configFile: options.config, opsListen: addressOption('--ops-listen', options.opsListen) };
}

function command(program: Command, name: string): Command {
  return (
    program
      .command(name)
      .option('-c, --config <file>', `the site's config file (default: site.yaml, then ${SYSTEM_CONFIG_FILE})`)
      // Looked for only where it is wanted: a process may not be allowed to.
      .hook('preAction', (_, action) => {
        if (action.getOptionValue('config') === undefined) action.setOptionValue('config', defaultConfigFile());
      })
      .allowExcessArguments(false)
  );
}

/** In milliseconds; 0 where it is not given. */
function durationOption(flag: string, value: string | undefined): number {
  return parsedOption(flag, value, parseDurationMs) ?? 0;
}

function addressOption(flag: string, value: string | undefined) {
  return parsedOption(flag, value, parseAddress);
}

function siteName(text: string): string {
  if (text === '') throw new Error('is no site');
  return text;
}

/** @throws UsageError with what the parser says of the value */
function parsedOption<T>(flag: string, value: string | undefined, parse: (text: string) => T): T | undefined {
  if (value === undefined) return undefined;
  try {
    return parse(value);
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
