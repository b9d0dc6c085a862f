import type { Application } from '../config/config.ts';
import {
  drainInFileKey,
  drainKey,
  evictKey,
  HOP_HEADER,
  METADATA_NAMESPACE,
  STATUS_CONTENT_TYPE,
  siteKey,
  statusBody,
} from '../contract.ts';
import { overwrite } from './cluster-parts.ts';
import { countsExactly, withoutStickiness } from './filters.ts';
import type { JsonObject } from './json.ts';
import { standIn, statPrefix } from './names.ts';
import { without } from './per-route.ts';
import { isAbsent } from './route-parts.ts';
import { whileSet } from './steady-routes.ts';

/**
 * The status URI. First of all routes, for what the sidecar has answered takes none; the health_check filter answers the rest,
 * by the health of the local pool. Where several applications share the filters it is that of the stand-in listener.
 */
export function statusRoutes(application: Application): JsonObject[] {
  const { name, envoy, isForEveryHost, localPool, site } = application;
  const isSteady = envoy.fastPath && countsExactly(localPool);
  return [
    // Without a sidecar: evicted for everybody, drained for the world.
    drained(application, 'evicted_status', evictKey(name), []),
    drained(application, 'drained_status', drainKey(name), [isAbsent(HOP_HEADER)]),
    drained(application, 'drained_in_file_status', drainInFileKey(name), [isAbsent(HOP_HEADER)]),
    ...(isSteady
      ? [
          {
            ...toHealthCheck(application, 'steady_status'),
            match: { path: application.statusUri, runtime_fraction: whileSet(siteKey(name, site)) },
            metadata: metadata(),
            typed_per_filter_config: {
              ...(isForEveryHost ? {} : withoutStickiness(application)),
              ...without(application, ['ext_proc']),
            },
          },
        ]
      : []),
    ...(isForEveryHost ? [] : [toHealthCheck(application, 'undecided_status')]),
  ];
}

/** The sidecar is asked first, and knows whether another site is up; this is what holds when there is none. */
function drained(application: Application, name: string, key: string, headers: readonly JsonObject[]): JsonObject {
  return {
    name,
    match: {
      path: application.statusUri,
      ...(headers.length === 0 ? {} : { headers: [...headers] }),
      runtime_fraction: whileSet(key),
    },
    direct_response: { status: 503, body: { inline_string: statusBody(false) } },
    response_headers_to_add: [overwrite('content-type', STATUS_CONTENT_TYPE), overwrite('cache-control', 'no-store')],
    metadata: metadata(),
    ...(application.isForEveryHost ? { typed_per_filter_config: without(application, ['health_check']) } : {}),
  };
}

function metadata(): JsonObject {
  return { filter_metadata: { [METADATA_NAMESPACE]: { decision: 'status' } } };
}

/** Where the health_check filter is among the edge's own, it answers before this leads anywhere. */
function toHealthCheck(application: Application, name: string): JsonObject {
  return {
    name,
    ...(application.isForEveryHost ? {} : { stat_prefix: statPrefix(application, 'status') }),
    match: { path: application.statusUri },
    route: { cluster: standIn(application), timeout: '0s' },
    typed_per_filter_config: withoutStickiness(application),
  };
}
