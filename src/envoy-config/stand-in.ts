import type { Application, CookieConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { expiredCookie, HOP_HEADER } from '../contract.ts';
import { healthCheckFilter, routerFilter, statefulSessionFilters } from './filters.ts';
import { HEADER_LIMITS_BEHIND_EDGE } from './header-limits.ts';
import { connectionManagerFilter, internalListener } from './internal-listener.ts';
import { type JsonObject, typed } from './json.ts';
import { upgrades } from './listener.ts';
import { refusalsOfEnvoy, statusAnswers } from './local-replies.ts';
import { oneOwnerAlsoFilter, oneOwnerFilter, standIn } from './names.ts';
import { opaqueOfHost } from './opaque-cookie.ts';
import { OWN_SERVER_HEADER } from './request-rules.ts';
import {
  BODY_BUFFER_BYTES,
  ownCountedFirst,
  plainLocalRoute,
  retriedOnReset,
  upgradesOverHttp1,
} from './route-parts.ts';
import { onlyWhenServedHere } from './served-here.ts';

/**
 * Serves here, without the sidecar, a request that carries another site's cookie: at one server, whose cookie the client
 * gets, while the other sites' cookies expire. That is a request meant for another site that could not take it, and
 * what the "undecided" routes keep here. A remote route can do neither itself, because while the other site serves, this
 * site's stickiness must keep out. So the request takes the way through an internal listener of this Envoy.
 */
export function renderStandInListener(application: Application): JsonObject {
  return internalListener(standIn(application), connectionManagerFilter(connectionManager(application)));
}

function connectionManager(application: Application): JsonObject {
  // Where the filters of the edge know no application the status URI comes here, when the sidecar has not answered it.
  const answersStatus = !application.isForEveryHost;
  return {
    stat_prefix: 'stand_in',
    ...(application.localPool.protocol === 'http1'
      ? { codec_type: 'HTTP1' }
      : { codec_type: 'AUTO', http2_protocol_options: { allow_connect: true } }),
    // The edge has said already who the client is.
    use_remote_address: false,
    skip_xff_append: true,
    preserve_external_request_id: true,
    ...OWN_SERVER_HEADER,
    stream_idle_timeout: formatProtoDuration(application.envoy.streamIdleTimeoutMs),
    // The edge has let it in, and added headers since.
    max_request_headers_kb: HEADER_LIMITS_BEHIND_EDGE.kb,
    common_http_protocol_options: { max_headers_count: HEADER_LIMITS_BEHIND_EDGE.count },
    ...upgrades(),
    http_filters: [
      ...(answersStatus ? [healthCheckFilter(application)] : []),
      ...oneOwner(application),
      ...statefulSessionFilters(application.localPool.cookie),
      routerFilter(),
    ],
    local_reply_config: {
      mappers: [
        ...(application.refusalStatus === 503
          ? []
          : refusalsOfEnvoy(application, [{ header_filter: { header: isForwardedByAnother(application) } }])),
        // This Envoy's own edge tells it by its header, and what it says to a client is a 503.
        ...refusalsOfEnvoy({ ...application, refusalStatus: 503 }, []),
        ...(answersStatus ? statusAnswers(application) : []),
      ],
    },
    route_config: {
      name: standIn(application),
      virtual_hosts: [
        {
          name: 'application',
          domains: ['*'],
          request_body_buffer_limit: BODY_BUFFER_BYTES,
          ...(application.localPool.cookie.opaque === null
            ? {}
            : { typed_per_filter_config: opaqueOfHost(application) }),
          routes: [
            // Forwarded to this site, so the application is told.
            ...ownCountedFirst(
              application,
              'stand_in_forwarded_own',
              plainLocalRoute(application, 'stand_in_forwarded', [isForwardedByAnother(application)]),
            ),
            // Of what this site meant to forward the hop header is its own, from the first try.
            ...ownCountedFirst(application, `${standIn(application)}_own`, {
              ...plainLocalRoute(application, standIn(application), []),
              request_headers_to_remove: [HOP_HEADER],
            }),
          ].flatMap((route) => [
            ...upgradesOverHttp1(application, route),
            ...(application.localPool.closeWhenDown ? retriedOnReset(application, route) : []),
            route,
          ]),
        },
      ],
    },
  };
}

function isForwardedByAnother({ site }: Application): JsonObject {
  return { name: HOP_HEADER, string_match: { exact: site }, invert_match: true };
}

/**
 * What a server here has answered takes the other sites' cookies away, and this one's where it stands under another name than it
 * is set under; a session that nobody served keeps them.
 */
function oneOwner({ localPool, remotePools, onOwnerDown }: Application): JsonObject[] {
  const ofOthers = onOwnerDown === 'keep' ? [] : remotePools;
  return [
    ...ofOthers.map((pool) => expiring(pool.cookie, pool.cookie.name, oneOwnerFilter(pool))),
    ...[...ofOthers, localPool].flatMap(({ cookie }) =>
      cookie.also.map((name) => expiring(cookie, name, oneOwnerAlsoFilter(name))),
    ),
  ];
}

function expiring(cookie: CookieConfig, cookieName: string, name: string): JsonObject {
  return onlyWhenServedHere(
    {
      name,
      typed_config: typed('envoy.extensions.filters.http.header_mutation.v3.HeaderMutation', {
        mutations: {
          response_mutations: [
            {
              append: {
                header: { key: 'set-cookie', value: expiredCookie(cookie, cookieName) },
                append_action: 'APPEND_IF_EXISTS_OR_ADD',
              },
            },
          ],
        },
      }),
    },
    { cookie: cookieName },
  );
}
