import { isLoopback } from '../../config/address.ts';
import { ENVOY_VERSIONS, type EnvoyVersion } from '../../config/config.ts';
import { drainKey, GRACEFUL_CLOSE_FLAG, siteKeys } from '../../contract.ts';
import { endpointPath } from '../../envoy-admin/admin-answers.ts';
import { statName } from '../../envoy-admin/admin-client.ts';
import { escapeRegex } from '../../envoy-admin/regex.ts';
import { hasSameEnvoyConfig } from '../../envoy-config/same-envoy-config.ts';
import { hasAdminAllowPaths, hasSafeGracefulClose } from '../../envoy-config/versions.ts';
import { formatEnvoyAddress } from '../envoy-snapshot.ts';
import { expectedOf, nearestVersion } from '../expected.ts';
import type { Facts } from '../facts.ts';
import { ok, type Said, steps, unchecked, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, pick, textAt } from '../json.ts';
import { allPools } from '../pools.ts';
import { matchString } from '../route-match.ts';
import { certificates, renewals } from './certificates.ts';
import type { CheckGroup } from './check.ts';
import { configDir } from './config-dir.ts';

/** Envoy itself: its version, its runtime, its admin interface. */
export const ENVOY_CHECKS: CheckGroup = {
  name: 'Envoy',
  checks: [
    { name: 'admin answers', run: adminAnswers },
    { name: 'version', run: version },
    { name: 'graceful close', run: gracefulClose },
    { name: 'admin address', run: adminAddress },
    { name: 'admin paths', run: adminPaths },
    { name: 'gauges', run: gauges },
    { name: 'updates', run: updates },
    { name: 'config dir', run: configDir },
    { name: 'certificates', run: certificates },
    { name: 'renewals', run: renewals },
  ],
};

/** What the sidecar needs to work; the rest is for the doctor alone. */
const NEEDED = ['clusters', 'stats'] as const;

function adminAnswers({ snapshot }: Facts): Said {
  if (!snapshot.isRunning) {
    return unchecked(['no Envoy was asked: the config is from a file', ...snapshot.unread.values()].join('; '));
  }
  const verdicts = [...snapshot.unread].map(([endpoint, why]) => {
    // Path and query, but no path that only begins so: /runtime_modify is another matter than /runtime.
    const regex = `${escapeRegex(endpointPath(endpoint))}(\\?.*)?`;
    const allow = yaml('let it be read, in admin:', { allow_paths: [{ safe_regex: { regex } }] });
    if (endpoint === 'configDump') return wrong(`${why}: most of what follows cannot be checked`, allow);
    return NEEDED.some((needed) => needed === endpoint) ? wrong(`${why}: the sidecar needs it`, allow) : unchecked(why);
  });
  return verdicts.length > 0 ? verdicts : [ok('all that is asked is answered')];
}

function version({ snapshot, config }: Facts): Said {
  const rendered = config.envoy.version;
  if (snapshot.version === null)
    return unchecked(`Envoy does not say its version: ${rendered} is taken, from the config`);
  const minor = /^\d+\.\d+/.exec(snapshot.version)?.[0] ?? '';
  const oldest = ENVOY_VERSIONS[0];
  const newest = ENVOY_VERSIONS.at(-1);
  if (!ENVOY_VERSIONS.some((known) => known === minor)) {
    if (Number(minor.split('.')[1]) < Number(oldest.split('.')[1])) {
      const fix = steps('what to do:', `run Envoy ${oldest} or later, best ${newest}`);
      return wrong(`${snapshot.version} is older than all that this version is made for (${oldest} to ${newest})`, fix);
    }
    return warn(
      `${snapshot.version} is not tested with this version (${oldest} to ${newest} are); checked as ${newest}`,
    );
  }
  if (minor === rendered) return ok(`${snapshot.version}, tested, and what envoy.version renders for`);
  const actual = nearestVersion(snapshot.version, rendered);
  const fix = yaml('in the site\'s config file, then render again ("site-persistence envoy"):', {
    envoy: { version: actual },
  });
  const text = `${snapshot.version}, but envoy.version is "${rendered}"`;
  return hasSameEnvoyConfig({ ...config, envoy: { ...config.envoy, version: actual } }, config)
    ? [warn(`${text}, for which the same config is rendered`, fix)]
    : [wrong(`${text}, for which another config is right`, fix)];
}

function gracefulClose({ snapshot, config, version }: Facts): Said {
  const value =
    snapshot.runtime === null ? staticRuntime(snapshot.bootstrap) : snapshot.runtime.get(GRACEFUL_CLOSE_FLAG);
  if (snapshot.runtime === null && snapshot.bootstrap === undefined) return unchecked('the runtime cannot be read');
  const isOn = value === 'true' || value === '1';
  if (hasSafeGracefulClose(version)) {
    if (isOn) return ok(`${GRACEFUL_CLOSE_FLAG} is on`);
    const { bootstrap } = expectedOf(config, version);
    return wrong(
      `${GRACEFUL_CLOSE_FLAG} is off: each decision ends by a reset, and Node closes a connection that has many`,
      yaml('in the bootstrap (in a layer that you have, or as a new one):', pick(bootstrap, 'layered_runtime')),
    );
  }
  if (!isOn) return ok(`${GRACEFUL_CLOSE_FLAG} is off, which is right before Envoy 1.40`);
  const fix = yaml('in the layer of layered_runtime that sets it (or take the line out):', {
    [GRACEFUL_CLOSE_FLAG]: false,
  });
  const text = `${GRACEFUL_CLOSE_FLAG} is on: before Envoy 1.40 the code behind it can use memory that was freed`;
  return [BACKPORTED.includes(version) ? warn(`${text}, unless the release has the backport`, fix) : wrong(text, fix)];
}

/** Later releases of these have the fixed code. */
const BACKPORTED: readonly EnvoyVersion[] = ['1.38', '1.39'];

function staticRuntime(bootstrap: unknown): string | undefined {
  const values = listAt(bootstrap, 'layered_runtime', 'layers').map((layer) =>
    at(layer, 'static_layer', GRACEFUL_CLOSE_FLAG),
  );
  const value = values.findLast((candidate) => candidate !== undefined);
  return value === undefined ? undefined : String(value);
}

function adminAddress({ snapshot, expected, config }: Facts): Said {
  const admin = at(snapshot.bootstrap, 'admin');
  const address = at(admin, 'address');
  const where = formatEnvoyAddress(address);
  if (where === undefined) return unchecked('the bootstrap does not show where the admin interface listens');
  const host = textAt(address, 'socket_address', 'address');
  if (host === undefined) {
    const mode = numberAt(address, 'pipe', 'mode') ?? 0;
    if ((mode & 0o006) === 0) return ok(`on a Unix socket: ${where}`);
    const fix = yaml('in the bootstrap:', {
      admin: { address: { pipe: { path: where.slice('unix:'.length), mode: 0o660 } } },
    });
    return wrong(
      `on a Unix socket that everybody on this machine can write to (mode 0${mode.toString(8)}): ${where}`,
      fix,
    );
  }
  if (isLoopback(host)) return ok(`on loopback: ${where}`);
  const own = config.envoy.admin;
  const safe =
    own.kind === 'unix' || isLoopback(own.host)
      ? pick(expected.bootstrap, 'admin', 'address')
      : { admin: { address: { socket_address: { address: '127.0.0.1', port_value: own.port } } } };
  const fix = yaml('in the bootstrap (and in envoy.admin of the config file):', safe);
  const text = `${where} can be reached from other machines: every client can stop Envoy and read its config`;
  return [isPrivate(host) ? warn(text, fix) : wrong(text, fix)];
}

/** Of what is asked by POST, which `doctor` cannot try: to end Envoy, which nobody here does, and what the sidecars share. */
function adminPaths({ snapshot, expected, config, version, applications }: Facts): Said {
  const admin = at(snapshot.bootstrap, 'admin');
  if (admin === undefined) return unchecked('the bootstrap does not show what the admin interface lets through');
  if (!hasAdminAllowPaths(version)) return ok(`all are let through: Envoy ${version} has no allow_paths`);
  const patterns = listAt(admin, 'allow_paths');
  const isAllowed = (path: string) =>
    patterns.length === 0 || patterns.some((pattern) => matchString(pattern, path) === 'yes');
  const fix = yaml('in the bootstrap:', pick(expected.bootstrap, 'admin', 'allow_paths'));
  const keys = applications.flatMap(({ application }) => {
    return config.envoy.fastPath ? siteKeys(application) : [drainKey(application.name)];
  });
  const refused = keys.filter((key) => !isAllowed(`/runtime_modify?${key}=100`));
  if (refused.length > 0) {
    const text = `allow_paths refuses /runtime_modify: no sidecar can set ${refused.join(', ')}`;
    return config.envoy.fastPath ? wrong(text, fix) : warn(`${text}, so a drain is that of one sidecar`, fix);
  }
  if (!isAllowed('/quitquitquit')) return ok('/quitquitquit and other paths that are not needed are rejected');
  const text = `every client of the admin interface can stop Envoy: ${
    patterns.length === 0 ? 'it has no allow_paths' : 'allow_paths lets /quitquitquit through'
  }`;
  const isSocket = at(admin, 'address', 'pipe') !== undefined;
  return [isSocket ? ok(`${text}; who that is, the mode of its Unix socket says`) : warn(text, fix)];
}

/** RFC 1918, link-local, and IPv6's unique local addresses. */
function isPrivate(host: string): boolean {
  return /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:)/i.test(host);
}

function gauges({ snapshot, config }: Facts): Said {
  const { stats } = snapshot;
  if (stats === null) return unchecked('the stats cannot be read');
  const known = allPools(config)
    .map(({ healthCluster: cluster }) => ({
      cluster,
      inStats: statName(snapshot.observabilityNames.get(cluster) ?? cluster),
    }))
    .filter(({ cluster }) => snapshot.clusters.has(cluster));
  const hidden = known.filter(({ inStats }) =>
    ['membership_healthy', 'membership_total'].some((gauge) => !stats.has(`cluster.${inStats}.${gauge}`)),
  );
  if (known.length === 0) return unchecked('no pool of the config is there');
  if (hidden.length === 0) return ok('membership_healthy and membership_total of each pool are to be seen');
  const names = hidden.map(({ inStats }) => escapeRegex(inStats)).join('|');
  const matcher = at(snapshot.bootstrap, 'stats_config', 'stats_matcher');
  return warn(
    `stats_matcher hides membership_* of ${hidden.map(({ cluster }) => cluster).join(', ')}: each poll lists every host instead`,
    at(matcher, 'exclusion_list') === undefined
      ? yaml('in stats_config of the bootstrap, beside the patterns that you have:', {
          stats_matcher: {
            inclusion_list: {
              patterns: [
                { safe_regex: { regex: `cluster\\.(${names})\\.(membership_.*|health_check\\.(failure|success))` } },
              ],
            },
          },
        })
      : steps(
          'in stats_config.stats_matcher.exclusion_list of the bootstrap:',
          `# take out what matches cluster.(${names}).membership_*`,
        ),
  );
}

function updates({ snapshot }: Facts): Said {
  if (snapshot.unread.has('configDump')) return unchecked('the config cannot be read');
  if (snapshot.refusedUpdates === null) return unchecked('what a running Envoy refuses is not in its bootstrap');
  if (snapshot.refusedUpdates.length === 0) return ok('Envoy has refused no update of its config');
  return snapshot.refusedUpdates.map((refused) => warn(`Envoy refused an update and keeps the old config: ${refused}`));
}

/** Whether some layer of the runtime can be written by `POST /runtime_modify`. */
export function hasAdminLayer(bootstrap: unknown): boolean {
  return listAt(bootstrap, 'layered_runtime', 'layers').some((layer) => at(layer, 'admin_layer') !== undefined);
}
