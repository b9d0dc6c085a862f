import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import { renderBootstrap } from '../envoy-config/bootstrap.ts';
import type { JsonObject } from '../envoy-config/json.ts';
import { mapNames } from '../envoy-config/references.ts';
import { snapshotOfBootstrap } from './envoy-snapshot.ts';
import { examine } from './examine.ts';
import { withAllToRender } from './expected.ts';
import type { Around } from './facts.ts';
import { type Finding, steps, type Verdict, warn, wrong } from './finding.ts';
import { at, listAt, textAt } from './json.ts';

/** Of what is only in a file nothing else is known. */
export const NOTHING_AROUND: Omit<Around, 'nowMs'> = { duplicateCookies: null, spoken: [], peers: [] };

/**
 * What is missing or unsafe in the rendered config because of its overlay: all checks, which go by what is rendered without it,
 * and what has been taken away.
 * @throws ConfigError where the overlay does not fit
 */
export function examineOverlay(config: Config, nowMs: number): Finding[] {
  if (config.envoy.overlay === null) return [];
  const whole = withAllToRender(config);
  const plain = { ...whole, envoy: { ...whole.envoy, overlay: null } };
  const [merged, before] = [renderBootstrap(whole), renderBootstrap(plain)];
  const troubles = (bootstrap: JsonObject) =>
    examine(plain, snapshotOfBootstrap(bootstrap), { ...NOTHING_AROUND, nowMs }).filter(
      ({ mark }) => mark === 'wrong' || mark === 'warn',
    );
  const found = troubles(merged);
  // With hundreds of applications each look takes its time.
  const known = new Set(found.length === 0 ? [] : troubles(before).map((finding) => JSON.stringify(finding)));
  return [
    ...adminOf(merged, before).map((verdict) => ({ group: GROUP, check: 'admin address', ...verdict })),
    ...takenAway(merged, before).map((verdict) => ({ group: GROUP, check: 'taken away', ...verdict })),
    ...found.filter((finding) => !known.has(JSON.stringify(finding))),
  ];
}

const GROUP = 'Overlay';

/** The sidecar asks where the config file says. */
function adminOf(merged: JsonObject, before: JsonObject): Verdict[] {
  if (isDeepStrictEqual(at(merged, 'admin', 'address'), at(before, 'admin', 'address'))) return [];
  const fix = steps('in the config file, in place of admin.address in the overlay:', 'envoy: { admin: … }');
  return [wrong("Envoy's admin interface is not where envoy.admin says: no sidecar sees its health", fix)];
}

/** No check looks at everything that is rendered, but it is there for something. */
function takenAway(merged: JsonObject, before: JsonObject): Verdict[] {
  const left = namesIn(merged);
  const all = [...namesIn(before)].filter((name) => !left.has(name));
  // Where a listener is gone, so are its filters.
  const gone = all.filter((name) => !all.some((outer) => name.endsWith(` of ${outer}`)));
  if (gone.length === 0) return [];
  const needed = new Set<string>();
  mapNames(merged, (name) => {
    for (const kind of ['cluster', 'listener']) if (gone.includes(`${kind} ${name}`)) needed.add(`${kind} ${name}`);
    return name;
  });
  const text = `what is rendered is no longer there: ${gone.join(', ')}`;
  const fix = steps('in the overlay:', 'leave it there');
  if (needed.size > 0) return [wrong(`${text}; something still leads to ${[...needed].join(', ')}`, fix)];
  const isRoute = gone.some((name) => name.startsWith('route ') || name.startsWith('virtual host '));
  return [isRoute ? wrong(`${text}; requests take a route that is not for them`, fix) : warn(text)];
}

/** Whatever has a name by which an overlay could take it away. */
function namesIn(bootstrap: JsonObject): Set<string> {
  const { clusters, connectionManagers } = snapshotOfBootstrap(bootstrap);
  const listeners = listAt(bootstrap, 'static_resources', 'listeners');
  return new Set([
    ...[...clusters.keys()].map((name) => `cluster ${name}`),
    ...listeners.map((listener) => `listener ${textAt(listener, 'name')}`),
    ...connectionManagers.flatMap(({ filters, label, routeConfig }) => [
      ...filters.map(({ name }) => `filter ${name} of ${label}`),
      ...listAt(routeConfig, 'virtual_hosts').flatMap((host) => {
        const where = `virtual host ${textAt(host, 'name')} of ${label}`;
        return [where, ...listAt(host, 'routes').map((route) => `route ${textAt(route, 'name')} of ${where}`)];
      }),
    ]),
  ]);
}
