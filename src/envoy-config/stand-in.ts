import type { Config } from '../config/config.ts';
import { expiredCookie } from '../ext-proc/expired-cookie.ts';
import { HOP_HEADER } from '../headers.ts';
import { HEADER_LIMITS_BEHIND_EDGE } from './header-limits.ts';
import { type JsonObject, typed } from './json.ts';
import { routerFilter, statefulSessionFilter, upgrades } from './listener.ts';
import { STAND_IN } from './names.ts';
import { plainLocalRoute } from './routes.ts';

/**
 * Serves here what was meant for another site that could not take it, as the sidecar would have decided had it known:
 * at one server, whose cookie the client gets, while the other sites' cookies go. The remote route itself can do neither,
 * for while the other site serves, this one's stickiness must keep out. So the retry takes the way through an internal
 * listener, within this Envoy. It also adopts sessions while the sidecar is gone.
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
    codec_type: 'HTTP1',
    // The edge has said already who the client is.
    use_remote_address: false,
    skip_xff_append: true,
    preserve_external_request_id: true,
    // The edge has let it in, and added headers since.
    max_request_headers_kb: HEADER_LIMITS_BEHIND_EDGE.kb,
    common_http_protocol_options: { max_headers_count: HEADER_LIMITS_BEHIND_EDGE.count },
    ...upgrades(),
    http_filters: [oneOwner(config), statefulSessionFilter(config.localPool.cookie), routerFilter()],
    route_config: {
      name: STAND_IN,
      virtual_hosts: [
        {
          name: 'application',
          domains: ['*'],
          // This site's own, from the first try.
          request_headers_to_remove: [HOP_HEADER],
          routes: [plainLocalRoute(config, STAND_IN, [])],
        },
      ],
    },
  };
}

/**
 * What a server here has answered takes the other sites' cookies away; a session that nobody served keeps them, and gets
 * none of this site. It takes Lua: nothing else in Envoy can tell its own 503 from an answer, which alone has this header.
 */
function oneOwner(config: Config): JsonObject {
  const expired = config.onOwnerDown === 'adopt' ? config.remotePools.map((pool) => expiredCookie(pool.cookie)) : [];
  const inline_string = [
    'function envoy_on_response(handle)',
    '  local headers = handle:headers()',
    '  if headers:get("x-envoy-upstream-service-time") then',
    // What JSON escapes in a cookie's name, path and domain, Lua reads in the same way.
    ...expired.map((cookie) => `    headers:add("set-cookie", ${JSON.stringify(cookie)})`),
    '  else',
    '    headers:remove("set-cookie")',
    '  end',
    'end',
    '',
  ].join('\n');
  return {
    name: 'envoy.filters.http.lua',
    typed_config: typed('envoy.extensions.filters.http.lua.v3.Lua', { default_source_code: { inline_string } }),
  };
}
