import type { Config } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { expiredCookie, HOP_HEADER } from '../contract.ts';
import { HEADER_LIMITS_BEHIND_EDGE } from './header-limits.ts';
import { type JsonObject, typed } from './json.ts';
import { refusalsOfEnvoy, routerFilter, statefulSessionFilter, upgrades } from './listener.ts';
import { oneOwnerFilter, STAND_IN } from './names.ts';
import { BODY_BUFFER_BYTES, plainLocalRoute, retriedOnReset, upgradesOverHttp1 } from './routes.ts';
import { onlyWhenServedHere } from './served-here.ts';

/**
 * Serves here, without the sidecar, a request that carries another site's cookie: at one server, whose cookie the client
 * gets, while the other sites' cookies expire. That is a request meant for another site that could not take it, and
 * what the "undecided" routes keep here. A remote route can do neither itself, because while the other site serves, this
 * site's stickiness must keep out. So the request takes the way through an internal listener of this Envoy.
 */
export function renderStandInListener(config: Config): JsonObject {
  return {
    name: STAND_IN,
    internal_listener: {},
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: typed(
              'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              connectionManager(config),
            ),
          },
        ],
      },
    ],
  };
}

function connectionManager(config: Config): JsonObject {
  return {
    stat_prefix: 'stand_in',
    ...(config.localPool.protocol === 'http1'
      ? { codec_type: 'HTTP1' }
      : { codec_type: 'AUTO', http2_protocol_options: { allow_connect: true } }),
    // The edge has said already who the client is.
    use_remote_address: false,
    skip_xff_append: true,
    preserve_external_request_id: true,
    stream_idle_timeout: formatProtoDuration(config.envoy.streamIdleTimeoutMs),
    // The edge has let it in, and added headers since.
    max_request_headers_kb: HEADER_LIMITS_BEHIND_EDGE.kb,
    common_http_protocol_options: { max_headers_count: HEADER_LIMITS_BEHIND_EDGE.count },
    ...upgrades(),
    http_filters: [...oneOwner(config), statefulSessionFilter(config.localPool.cookie), routerFilter()],
    local_reply_config: { mappers: refusalsOfEnvoy(config, []) },
    route_config: {
      name: STAND_IN,
      virtual_hosts: [
        {
          name: 'application',
          domains: ['*'],
          request_body_buffer_limit: BODY_BUFFER_BYTES,
          routes: [
            // Forwarded to this site, so the application is told.
            plainLocalRoute(config, 'stand_in_forwarded', [isForwardedByAnother(config)]),
            // Of what this site meant to forward the hop header is its own, from the first try.
            { ...plainLocalRoute(config, STAND_IN, []), request_headers_to_remove: [HOP_HEADER] },
          ].flatMap((route) => [
            ...upgradesOverHttp1(config, route),
            ...(config.localPool.closeWhenDown ? retriedOnReset(config, route) : []),
            route,
          ]),
        },
      ],
    },
  };
}

function isForwardedByAnother({ site }: Config): JsonObject {
  return { name: HOP_HEADER, string_match: { exact: site }, invert_match: true };
}

/** What a server here has answered takes the other sites' cookies away; a session that nobody served keeps them. */
function oneOwner(config: Config): JsonObject[] {
  if (config.onOwnerDown === 'keep') return [];
  return config.remotePools.map((pool) =>
    onlyWhenServedHere(
      {
        name: oneOwnerFilter(pool),
        typed_config: typed('envoy.extensions.filters.http.header_mutation.v3.HeaderMutation', {
          mutations: {
            response_mutations: [
              {
                append: {
                  header: { key: 'set-cookie', value: expiredCookie(pool.cookie) },
                  append_action: 'APPEND_IF_EXISTS_OR_ADD',
                },
              },
            ],
          },
        }),
      },
      { cookie: pool.cookie.name },
    ),
  );
}
