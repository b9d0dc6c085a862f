import { loadConfig } from '../config/load.ts';
import { askEnvoy } from '../doctor/admin-answers.ts';
import { readSnapshot } from '../doctor/envoy-snapshot.ts';
import { examine } from '../doctor/examine.ts';
import { jsonReport, printReport } from '../doctor/report.ts';
import { AdminError, describeAdmin } from '../health/admin-client.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './run.ts';

/** Says what is right, missing or unsafe in the running Envoy's config. @throws CommandFailed when something is wrong */
export async function doctor(configFile: string, asJson: boolean, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile);
  const admin = describeAdmin(config.envoy.admin);
  const snapshot = readSnapshot(await ask(config.envoy.admin, admin));
  const findings = examine(config, snapshot);
  const report = { site: config.site, admin, version: snapshot.version, findings };
  const colour = context.stdout.isTTY === true && (context.env.NO_COLOR ?? '') === '';
  context.stdout.write(asJson ? jsonReport(report) : printReport(report, { colour }));
  const wrong = findings.filter(({ mark }) => mark === 'wrong').length;
  if (wrong > 0) throw new CommandFailed(`${wrong} of ${findings.length} findings ${wrong === 1 ? 'is' : 'are'} wrong`);
}

async function ask(address: Parameters<typeof askEnvoy>[0], admin: string) {
  try {
    return await askEnvoy(address);
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    const hint =
      error.code === 'ADMIN_BAD_ANSWER' ? "is it Envoy's?" : 'is Envoy running, and is envoy.admin its address?';
    throw new CommandFailed(`no Envoy answers at ${admin} (envoy.admin): ${error.message}; ${hint}`, { cause: error });
  }
}
