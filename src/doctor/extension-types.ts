/** Envoy's types of what the checks look for: an extension is known by its type, its name is the operator's. */
export const EXT_PROC = 'envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor';
export const EXT_PROC_PER_ROUTE = 'envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute';
export const HEALTH_CHECK = 'envoy.extensions.filters.http.health_check.v3.HealthCheck';
export const STATEFUL_SESSION = 'envoy.extensions.filters.http.stateful_session.v3.StatefulSession';
export const STATEFUL_SESSION_PER_ROUTE = 'envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute';
export const COOKIE_SESSION_STATE = 'envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState';
export const LUA = 'envoy.extensions.filters.http.lua.v3.Lua';
export const LUA_PER_ROUTE = 'envoy.extensions.filters.http.lua.v3.LuaPerRoute';
export const ROUTER = 'envoy.extensions.filters.http.router.v3.Router';
export const EARLY_HEADER_MUTATION = 'envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation';
export const HEADER_MUTATION = 'envoy.extensions.filters.http.header_mutation.v3.HeaderMutation';
export const AGGREGATE_CLUSTER = 'envoy.extensions.clusters.aggregate.v3.ClusterConfig';
export const PRIORITY_GROUPS =
  'envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier';
export const PREVIOUS_PRIORITIES = 'envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig';
export const HTTP_PROTOCOL_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
export const INTERNAL_UPSTREAM = 'envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport';
export const RAW_BUFFER = 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer';
export const UPSTREAM_TLS = 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';
/** Switches any filter off for a route, but not `stateful_session` on one chosen after the route cache was cleared. */
export const FILTER_CONFIG = 'envoy.config.route.v3.FilterConfig';
