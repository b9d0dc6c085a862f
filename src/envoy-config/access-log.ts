import { type Config, isOneForEveryHost } from '../config/config.ts';
import { HOP_HEADER, METADATA_NAMESPACE } from '../contract.ts';
import { type JsonObject, typed } from './json.ts';

/** One JSON line for each request on stdout, with the decision and the owner of its session. */
export function accessLogs(config: Config): JsonObject[] {
  // Of the virtual host, for the sidecar may have had no opinion.
  const application = `%METADATA(VIRTUAL_HOST:${METADATA_NAMESPACE}:application)%`;
  const more = isOneForEveryHost(config) ? {} : { application };
  return config.envoy.fastPath ? accessLogsWithFastPath(more) : [accessLog(decisionOfSidecar, more)];
}

const decisionOfSidecar = (key: string) => `%DYNAMIC_METADATA(${METADATA_NAMESPACE}:${key})%`;

/** The fast route bears its decision, for the sidecar has not seen the request. */
const decisionOfRoute = (key: string) => `%METADATA(ROUTE:${METADATA_NAMESPACE}:${key})%`;

/** Each request has one line still: by the sidecar's decision where there is one, else by the route's. */
function accessLogsWithFastPath(more: JsonObject): JsonObject[] {
  const where = { filter: METADATA_NAMESPACE, path: [{ key: 'decision' }] };
  // The filter does not look at `invert`: what is there is never null.
  const [isThere, isNever] = [{ present_match: true }, { null_match: {} }];
  return [
    {
      ...accessLog(decisionOfSidecar, more),
      filter: { metadata_filter: { matcher: { ...where, value: isThere }, match_if_key_not_found: false } },
    },
    {
      ...accessLog(decisionOfRoute, more),
      filter: { metadata_filter: { matcher: { ...where, value: isNever }, match_if_key_not_found: true } },
    },
  ];
}

function accessLog(metadata: (key: string) => string, more: JsonObject): JsonObject {
  return {
    name: 'envoy.access_loggers.stdout',
    typed_config: typed('envoy.extensions.access_loggers.stream.v3.StdoutAccessLog', {
      log_format: {
        json_format: {
          time: '%START_TIME%',
          method: '%REQ(:METHOD)%',
          path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
          status: '%RESPONSE_CODE%',
          flags: '%RESPONSE_FLAGS%',
          details: '%RESPONSE_CODE_DETAILS%',
          decision: metadata('decision'),
          owner: metadata('owner'),
          ...more,
          hop: `%REQ(${HOP_HEADER})%`,
          route: '%ROUTE_NAME%',
          upstream_cluster: '%UPSTREAM_CLUSTER_RAW%',
          upstream_host: '%UPSTREAM_HOST%',
          attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
          duration_ms: '%DURATION%',
          client: '%DOWNSTREAM_REMOTE_ADDRESS%',
          request_id: '%REQ(X-REQUEST-ID)%',
        },
      },
    }),
  };
}
