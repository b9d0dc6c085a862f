import type { Config } from '../../config/config.ts';
import { siteKeys } from '../../contract.ts';
import { createPolicy } from '../../decision/policy.ts';
import { describeAdmin } from '../../envoy-admin/admin-client.ts';
import { steadyDecisions } from '../../envoy-config/steady-routes.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { fitted } from '../filters-of.ts';
import { ok, type Said, steps, unchecked, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, pick, textAt } from '../json.ts';
import { describeRoute, isExtProcOff, readerOf } from '../route-survey.ts';
import { describeDecision, describeProbe, isForStatus, someProbes, surveySteady } from '../steady-probes.ts';
import { routeConfigOf } from '../virtual-hosts.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge, noHosts } from './edges.ts';
import { hasAdminLayer } from './envoy.ts';

/** The routes past the sidecar, and the runtime keys that switch them on. */
export const FAST_PATH_CHECKS: CheckGroup = {
  name: 'Fast path',
  checks: [
    { name: 'key', run: (facts) => eachApplication(facts, key) },
    { name: 'route', run: (facts) => eachApplication(facts, (own) => eachEdge(own, route)) },
  ],
};

const VALUES = ['0', '100'];

/** One wrong matcher lets many requests through. */
const MAX_SAID = 3;

function key({ config, snapshot, application }: ApplicationFacts): Said {
  const keys = siteKeys(application);
  const { runtime, bootstrap } = snapshot;
  const values = keys.map((name) => [name, runtime?.get(name)] as const);
  const unseen = unchecked('what the sidecars keep in the runtime only a running Envoy shows');
  if (!config.envoy.fastPath) {
    if (!snapshot.isRunning) return unseen;
    if (runtime === null) return unchecked('the runtime cannot be read');
    const left = values.filter(([, value]) => value !== undefined && Number(value) !== 0);
    if (left.length === 0) return ok('not used, and its keys are not set');
    return left.map(([name, value]) => {
      const text = `${name} is ${value}, though envoy.fast_path is false: no sidecar clears it when it must`;
      return wrong(text, steps('run:', takeAway(config, name)));
    });
  }
  if (bootstrap === undefined) return unchecked('the bootstrap cannot be read');
  if (!hasAdminLayer(bootstrap)) {
    const layer = { layered_runtime: { layers: [{ name: 'admin', admin_layer: {} }] } };
    const fix = yaml('in the bootstrap, after the layers that you have:', layer);
    const text = `no sidecar can set ${keys.join(', ')}: layered_runtime has no admin_layer. Each request asks, and a drain is that of one sidecar`;
    return wrong(text, fix);
  }
  if (!snapshot.isRunning) return unseen;
  if (runtime === null) return unchecked('the runtime cannot be read');
  const odd = values.filter(([, value]) => value !== undefined && !VALUES.includes(value));
  if (odd.length > 0) {
    return odd.map(([name, value]) => {
      return warn(`${name} is ${value}, which no sidecar sets`, steps('run:', takeAway(config, name)));
    });
  }
  const said = values.map(([name, value]) => `${name} is ${value === undefined ? 'not set' : value}`);
  return ok(`${said.join(', ')}: what is 100 needs no sidecar`);
}

function takeAway({ envoy }: Config, key: string): string {
  const target =
    envoy.admin.kind === 'unix' ? `--unix-socket ${envoy.admin.path} "http://envoy` : `"${describeAdmin(envoy.admin)}`;
  return `curl -X POST ${target}/runtime_modify?${key}=0"`;
}

function route(edge: Edge, facts: ApplicationFacts): Said {
  const { config, application, isOneForAll } = facts;
  const keys = siteKeys(application);
  const ours = facts.surveys.get(edge)?.hosts ?? [];
  const hosts = isOneForAll ? edge.hostMap.all : ours;
  const none = noHosts(edge, facts);
  if (none !== null) return none;
  if (edge.routeConfig === undefined) return unchecked('the routes cannot be read');
  const steady = hosts.flatMap((host) => {
    return listAt(host.config, 'routes').filter((item) => keys.includes(keyOf(item)));
  });
  if (!config.envoy.fastPath) {
    if (steady.length === 0) return ok('no route reads its keys');
    const names = [...new Set(steady.map(describeRoute))].join(', ');
    const read = [...new Set(steady.map(keyOf))].join(', ');
    const text = `${names} reads ${read}, though envoy.fast_path is false`;
    return warn(text, yaml("in the site's config file (or take the routes out):", { envoy: { fast_path: true } }));
  }
  const unread = keys.filter((key) => !steady.some((item) => keyOf(item) === key));
  if (unread.length > 0) {
    return wrong(`no route reads ${unread.join(', ')}: such requests ask the sidecar`, routesOf(edge, facts, unread));
  }
  const { extProc } = edge;
  const reader = readerOf([application], facts.snapshot);
  const policy = createPolicy(application);
  const verdicts = [
    ...steady.flatMap((item): Said => ofRoute(item, edge, facts)),
    ...hosts
      .filter((host) => ours.includes(host))
      .flatMap((host): Said => {
        const taken = surveySteady(someProbes(application), { application, host, extProc, reader });
        const mistakes = taken.filter(({ isRight }) => !isRight);
        if (mistakes.length === 0) return [];
        const fix = routesOf(edge, facts, keys);
        const wrongs = mistakes.map(({ probe, route: by, sentTo, decision }) => {
          const where = sentTo.length === 0 ? 'nowhere' : sentTo.join(' or ');
          const what = `${describeRoute(by)} decides otherwise than the sidecar`;
          return `${what}: a request ${describeProbe(probe, policy)} goes to ${where} instead of ${describeDecision(decision, policy)}`;
        });
        return wrongs.slice(0, MAX_SAID).map((text) => wrong(text, fix));
      }),
  ];
  return verdicts.length > 0 ? verdicts : [ok('take only what needs no decision')];
}

function keyOf(route: unknown): string {
  return textAt(route, 'match', 'runtime_fraction', 'runtime_key') ?? '';
}

/** The routes that are printed for these keys. */
function routesOf(edge: Edge, facts: ApplicationFacts, keys: readonly string[]) {
  const models = facts.rendered.routes.filter((item) => keys.includes(keyOf(item)));
  const names = (facts.surveys.get(edge)?.hosts ?? []).map(({ name }) => name).join(', ');
  return yaml(
    `in routes of virtual host ${names} of ${routeConfigOf(edge)}, before the others:`,
    models.map((model) => fitted(model, edge, facts)),
  );
}

function ofRoute(item: unknown, edge: Edge, facts: ApplicationFacts): Said {
  const name = describeRoute(item);
  if ((numberAt(item, 'match', 'runtime_fraction', 'default_value', 'numerator') ?? 0) !== 0) {
    const fix = routesOf(edge, facts, [keyOf(item)]);
    return wrong(`${name} takes requests when ${keyOf(item)} is not set, and nobody watches over it`, fix);
  }
  const models = facts.rendered.routes.filter((each) => keyOf(each) === keyOf(item));
  const model = models.find((each) => textAt(each, 'name') === textAt(item, 'name')) ?? models[0];
  if (isExtProcOff(item, edge)) return counting(item, model, facts);
  const off = yaml(`in ${name}:`, {
    typed_per_filter_config: {
      [edge.extProc.name]: at(model, 'typed_per_filter_config', 'envoy.filters.http.ext_proc'),
    },
  });
  return wrong(`${name} does not switch ${edge.extProc.name} off: every request asks the sidecar`, off);
}

/** A route whose counter no sidecar reads is missing in the decisions of metrics, page and `/api/state`. */
function counting(item: unknown, model: unknown, { application }: ApplicationFacts): Said {
  // Of one application for every host the health_check filter counts them.
  if (application.isForEveryHost && isForStatus(item)) return [];
  const prefix = textAt(item, 'stat_prefix') ?? '';
  if (steadyDecisions(application).some(({ statPrefix }) => statPrefix === prefix)) return [];
  const found = prefix === '' ? 'it has no stat_prefix' : `no sidecar reads the stat_prefix ${prefix}`;
  const name = describeRoute(item);
  return warn(`what ${name} decides is not counted: ${found}`, yaml(`in ${name}:`, pick(model, 'stat_prefix')));
}
