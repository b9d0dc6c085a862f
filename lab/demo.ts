import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { say } from './demo-output.ts';
import { type DemoContext, DemoSiteProcesses, PARTS, type Part } from './demo-site-processes.ts';
import { APPLICATIONS, refuseBusyPorts, SITES } from './demo-sites.ts';
import { envoyMinorVersion, findEnvoy } from './envoy-binary.ts';
import { stopAllProcesses } from './managed-process.ts';

const GUIDE = `
Two sites are running: east on http://localhost:8081, west on http://localhost:8082.
Status pages: east http://localhost:9003/, west http://localhost:9013/

Try, in another terminal (or open the addresses in a browser):
  curl -i http://localhost:8081/              a new client: served locally, with a cookie for its server
  curl -s -c jar http://localhost:8081/       a session of east, kept in the file "jar" …
  curl -s -b jar http://localhost:8082/       … asked for at west: its own server in east answers
  curl -i http://localhost:8081/local_pool_status
                                              what a global load balancer asks
  curl -i -b KVAAVROI=x -b DDVHSLLQ=x http://localhost:8081/
                                              both sites' cookies: one of them is expired
  curl -i http://shop.localhost:8081/         another application: its own servers and cookies
  curl -i http://mail.localhost:8081/         and one more

Type here, then Enter, and ask again:
  stop east, start east                       a site's application servers, of all its applications
  stop east shop, start east shop             those of one application: shop, mail or default
  stop east sidecar, start east sidecar       its sidecar; likewise: envoy
  add east, remove east                       a server more, and less again: nothing restarts, no request is lost;
                                              likewise: add east shop
  help                                        prints this again
  quit, or Ctrl-C                             ends everything

Health checks are not printed here; your requests and what changes are.
`;

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());

  await refuseBusyPorts();
  const binary = await findEnvoy(say);
  const version = await envoyMinorVersion(binary);
  const work = await mkdtemp(join(tmpdir(), 'site-persistence-demo-'));
  const context: DemoContext = { binary, version, work, stop: stop.signal };
  try {
    say(`starting two sites with Envoy ${version} (${binary})`);
    const sites = await Promise.all(SITES.map((site) => DemoSiteProcesses.create(site, context)));
    await Promise.all(sites.flatMap((site) => APPLICATIONS.map((application) => site.start(application))));
    await Promise.all(sites.flatMap((site) => [site.start('envoy'), site.start('sidecar')]));
    // What is said of pools while they come up would scroll the guide away.
    await Promise.all(sites.map((site) => site.untilWell()));
    if (!stop.signal.aborted) process.stdout.write(`${GUIDE}\n`);
    readCommands(sites, stop);
    if (!stop.signal.aborted) await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
    return 0;
  } finally {
    stop.abort();
    say('ending everything');
    await stopAllProcesses();
    await rm(work, { recursive: true, force: true });
    say('nothing is left running');
  }
}

function readCommands(sites: readonly DemoSiteProcesses[], stop: AbortController): void {
  const input = createInterface({ input: process.stdin });
  stop.signal.addEventListener('abort', () => input.close());
  input.on('line', (line) => {
    const [verb = '', siteName = '', partName = ''] = line.trim().split(/\s+/);
    if (verb === '') return;
    if (verb === 'quit') {
      stop.abort();
      return;
    }
    if (verb === 'help') {
      process.stdout.write(`${GUIDE}\n`);
      return;
    }
    const site = sites.find(({ name }) => name === siteName);
    const command = site === undefined ? null : commandOf(verb, site, partName);
    if (command === null) {
      say(
        `not understood: ${line.trim()}. Write stop or start, east or west, and nothing or one of ${PARTS.join(', ')}; ` +
          `add or remove, east or west, and nothing or one of ${APPLICATIONS.join(', ')}; or help`,
      );
      return;
    }
    command().catch((error: unknown) => {
      if (!stop.signal.aborted) say(messageOf(error));
    });
  });
}

/** Null: there is none of that name. */
function commandOf(verb: string, site: DemoSiteProcesses, partName: string): (() => Promise<void>) | null {
  const parts = partName === '' ? APPLICATIONS : PARTS.filter((name) => name === partName);
  const application = APPLICATIONS.find((name) => name === (partName || 'default'));
  switch (verb) {
    case 'stop':
      return parts.length === 0 ? null : async () => site.kill(parts);
    case 'start':
      return parts.length === 0 ? null : () => startAgain(site, parts);
    case 'add':
      return application === undefined ? null : () => site.addServer(application);
    case 'remove':
      return application === undefined ? null : () => site.removeServer(application);
    default:
      return null;
  }
}

async function startAgain(site: DemoSiteProcesses, parts: readonly Part[]): Promise<void> {
  const ended = parts.filter((part) => site.hasEnded(part));
  if (ended.length === 0) say(`${site.name}'s ${parts.length > 1 ? 'pools are' : `${parts[0]} is`} running`);
  await Promise.all(ended.map((part) => site.start(part)));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

main()
  .catch((error: unknown) => {
    process.stderr.write(`demo: ${messageOf(error)}\n`);
    return 1;
  })
  .then((code) => process.exit(code));
