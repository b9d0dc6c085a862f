import { FAST_PATH_KEY, HOP_HEADER } from '../../contract.ts';
import { describeAdmin } from '../../envoy-admin/admin-client.ts';
import type { Edge, Facts } from '../facts.ts';
import { ok, steps, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, textAt } from '../json.ts';
import { matchRoute } from '../route-match.ts';
import { describeRoute, isExtProcOff } from '../route-survey.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';
import { hasAdminLayer } from './envoy.ts';

/** The route past the sidecar, and the runtime key that switches it on. */
export const FAST_PATH_CHECKS: CheckGroup = {
  name: 'Fast path',
  checks: [
    { name: 'key', run: key },
    { name: 'route', run: (facts) => eachEdge(facts, route) },
  ],
};

const VALUES = ['0', '100'];

function key({ config, snapshot }: Facts): Verdict[] {
  const { runtime, bootstrap } = snapshot;
  const value = runtime?.get(FAST_PATH_KEY);
  if (!config.envoy.fastPath) {
    if (runtime === null) return [unchecked('the runtime cannot be read')];
    if (value === undefined || Number(value) === 0) return [ok('not used, and its key is not set')];
    const text = `${FAST_PATH_KEY} is ${value}, though envoy.fast_path is false: no sidecar clears it when it must`;
    return [wrong(text, steps('run:', takeAway(config)))];
  }
  if (bootstrap === undefined) return [unchecked('the bootstrap cannot be read')];
  if (!hasAdminLayer(bootstrap)) {
    const layer = { layered_runtime: { layers: [{ name: 'admin', admin_layer: {} }] } };
    const fix = yaml('in the bootstrap, after the layers that you have:', layer);
    return [wrong(`no sidecar can set ${FAST_PATH_KEY}: layered_runtime has no admin_layer`, fix)];
  }
  if (runtime === null) return [unchecked('the runtime cannot be read')];
  if (value === undefined) return [ok(`${FAST_PATH_KEY} can be set, and is not: every request asks the sidecar`)];
  if (VALUES.includes(value)) {
    return [ok(`${FAST_PATH_KEY} can be set, and is ${value}: ${value === '0' ? 'off' : 'on'} now`)];
  }
  return [warn(`${FAST_PATH_KEY} is ${value}, which no sidecar sets`, steps('run:', takeAway(config)))];
}

function takeAway({ envoy }: Facts['config']): string {
  const target =
    envoy.admin.kind === 'unix' ? `--unix-socket ${envoy.admin.path} "http://envoy` : `"${describeAdmin(envoy.admin)}`;
  return `curl -X POST ${target}/runtime_modify?${FAST_PATH_KEY}=0"`;
}

function route(edge: Edge, facts: Facts): Verdict[] {
  const { config, expected } = facts;
  const routes = listAt(edge.routeConfig, 'virtual_hosts').flatMap((host) => listAt(host, 'routes'));
  if (edge.routeConfig === undefined) return [unchecked('the routes cannot be read')];
  const fast = routes.filter((item) => textAt(item, 'match', 'runtime_fraction', 'runtime_key') === FAST_PATH_KEY);
  if (!config.envoy.fastPath) {
    if (fast.length === 0) return [ok('no route reads its key')];
    const text = `${[...new Set(fast.map(describeRoute))].join(', ')} reads ${FAST_PATH_KEY}, though envoy.fast_path is false`;
    return [warn(text, yaml("in the site's config file (or take the route out):", { envoy: { fast_path: true } }))];
  }
  const model = expected.route('fast_local');
  const fix = yaml('in routes, before the others:', [model]);
  if (fast.length === 0) return [wrong(`no route reads ${FAST_PATH_KEY}: every request asks the sidecar`, fix)];
  const verdicts = fast.flatMap((item): Verdict[] => {
    const name = describeRoute(item);
    if ((numberAt(item, 'match', 'runtime_fraction', 'default_value', 'numerator') ?? 0) !== 0) {
      return [wrong(`${name} takes requests when ${FAST_PATH_KEY} is not set, and nobody watches over it`, fix)];
    }
    if (!isExtProcOff(item, edge)) {
      const off = yaml(`in ${name}:`, {
        typed_per_filter_config: {
          [edge.extProc.name]: at(model, 'typed_per_filter_config', 'envoy.filters.http.ext_proc'),
        },
      });
      return [wrong(`${name} does not switch ${edge.extProc.name} off: every request asks the sidecar`, off)];
    }
    const taken = mustAsk(config).filter(
      ({ path, headers }) => matchRoute(item, { path, headers, runtime: ON }) !== 'no',
    );
    if (taken.length === 0) return [];
    return [wrong(`${name} takes requests that need a decision: ${taken.map(({ what }) => what).join(', ')}`, fix)];
  });
  return verdicts.length > 0 ? verdicts : [ok('takes only what needs no decision')];
}

const ON = new Map([[FAST_PATH_KEY, '100']]);

/** Requests that only the sidecar can decide. */
function mustAsk({ remotePools, statusUri }: Facts['config']) {
  return [
    { what: `with ${HOP_HEADER}`, path: '/', headers: { [HOP_HEADER]: remotePools[0]?.site ?? 'other' } },
    ...remotePools.map(({ site, cookie }) => ({
      what: `with the cookie of ${site}`,
      path: '/',
      headers: { cookie: `a=1; ${cookie.name}=x` },
    })),
    { what: 'for the status URI', path: statusUri, headers: {} },
    {
      what: 'for the status URI, escaped',
      path: `/%${statusUri.charCodeAt(1).toString(16)}${statusUri.slice(2)}`,
      headers: {},
    },
  ];
}
