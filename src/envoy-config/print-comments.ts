import { type Application, applicationsOf, type Config } from '../config/config.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import {
  adoptedRoute,
  alsoFilter,
  anywhere,
  closingCluster,
  HOP_EDGE,
  keptRoute,
  OPAQUE_FILTER,
  oneOwnerAlsoFilter,
  oneOwnerFilter,
  orElsewhere,
  overHttp1,
  overHttp2,
  redirectOrProxy,
  redirectTo,
  renamedRoute,
  SIDECAR_CLUSTER,
  standIn,
  withFallback,
} from './names.ts';

/** What each named part of the config is for. */
function commentsByName(config: Config): Map<string, string> {
  const shared: [string, string][] = [
    [HOP_EDGE, 'Where other sites forward to, each with a certificate of its own.'],
    [
      'envoy.filters.http.ext_proc',
      'Asks the sidecar. Without its answer the request goes on, by the "undecided" routes.',
    ],
    ['envoy.filters.http.health_check', 'Answers the status URI when the sidecar is gone.'],
    [
      'envoy.filters.http.stateful_session',
      "Keeps a client at one server of the local pool, by the site's cookie, which only an answer of such a server sets.",
    ],
    [
      alsoFilter(0),
      "Finds the server of a session whose cookie has another name of the site's, and sets none: the answer has the cookie\n" +
        ' under its own name.',
    ],
    [
      OPAQUE_FILTER,
      "Puts a keyed hash in place of the server's address in the site's cookie, and back: the virtual host says how.",
    ],
    ['undecided_status', 'The sidecar has not answered the status URI: by way of the stand-in listener Envoy does.'],
    ['evicted_status', 'What drains says DOWN, and while it evicts also to other sites; asked first is the sidecar.'],
    ['steady_status', 'While the sidecar keeps the key set, Envoy answers the status URI by its own health checks.'],
    ['steady_own', 'Steady: no sidecar is asked while it keeps the key of the site set. A session of this site: here.'],
    ['steady_new', 'The same for a request without a session.'],
    ['steady_forwarded_own', 'The same for what another site has forwarded: here, and not sent on whatever happens.'],
    ['steady_forwarded', 'The same without a session.'],
    [
      'decided_forwarded_own',
      "The sidecar says: here. Of this site's own sessions alone, so that those are counted whose server is gone.",
    ],
    ['decided_forwarded', 'The sidecar says: here. Forwarded by another site, so it is not sent on whatever happens.'],
    [
      'decided_forwarded_kept',
      "Another site's session that stays its own: a server here meanwhile, by a cookie that tells no site.",
    ],
    ['decided_own', 'The same of what no other site has forwarded.'],
    ['decided_local', 'The sidecar says: here. What no server here takes is tried at another site.'],
    [
      renamedRoute,
      "No decision, but forwarded by another site, with this site's cookie under another name: here, and that one expires.",
    ],
    ['undecided_forwarded', 'No decision, but forwarded by another site: here.'],
    ['undecided_local', 'No decision, and no cookie of another site: here.'],
    [SIDECAR_CLUSTER, 'The sidecar, or several of them.'],
    [
      'stand_in_forwarded_own',
      "Forwarded by another site: the application is told. This site's own sessions apart, so that those are counted whose\n" +
        ' server is gone.',
    ],
    ['stand_in_forwarded', 'The same without one.'],
  ];
  return new Map([...shared, ...applicationsOf(config).flatMap(commentsOfApplication)]);
}

function commentsOfApplication(application: Application): [string, string][] {
  const { localPool, remotePools } = application;
  const comments = new Map([
    [localPool.cluster, 'The local pool: the servers of this site.'],
    [overHttp1(localPool), 'The same for WebSockets, which few servers take over HTTP/2.'],
    [closingCluster(localPool.cluster), 'The same for what is open: closed when a server has fallen silent.'],
    [
      orElsewhere(localPool),
      'The same for what comes to the edge, also from other sites, so that a session has one server: when no server is healthy the\n' +
        ' last one refuses, and the retry goes on: what may leave the site does.',
    ],
    [anywhere(application), 'Without a decision: here, and where no server here takes it at the first site that does.'],
    [
      standIn(application),
      "Local fallback for another site's session, without the sidecar: it gets a server, and so its owner, here.",
    ],
  ]);
  for (const name of localPool.cookie.also) {
    comments.set(oneOwnerAlsoFilter(name), `This site's own cookie is now set under another name than ${name}.`);
  }
  for (const pool of remotePools) {
    const { site, cluster } = pool;
    comments.set(
      `decided_${cluster}`,
      `The sidecar says: to ${site}, which owns the session. The hop header is added here for the first try, and by the pool's\n` +
        ' upstream filter to a retry that comes from the local pool.',
    );
    comments.set(`steady_${cluster}`, `The same for a session of ${site}: there, while ${site} is up.`);
    comments.set(`undecided_${cluster}`, `No decision, but a cookie of ${site}.`);
    comments.set(
      adoptedRoute(pool),
      `No decision, but forwarded by another site: here, and the cookie of ${site} expires.`,
    );
    comments.set(
      keptRoute(pool),
      `No decision, and both cookies: here (both_cookies: local), and that of ${site} expires.`,
    );
    comments.set(
      oneOwnerFilter(pool),
      `Expires the cookie of ${site} when a server here has served the session, and only then.`,
    );
    for (const name of pool.cookie.also) comments.set(oneOwnerAlsoFilter(name), `The same of ${site} as ${name}.`);
    comments.set(overHttp2(pool), `The same by HTTP/2, up where ${site} speaks it.`);
    comments.set(
      closingCluster(cluster),
      `HTTP/1.1 to ${site} comes through here: what is open to a server that has fallen silent is closed.`,
    );
    comments.set(cluster, `The remote pool: the virtual IP of ${site}, asked for its status.`);
    const address = pool.redirect ?? '';
    comments.set(
      `decided_${cluster}_redirect`,
      `The same, as a redirect to ${address}. What could go round,\n or what clients do not follow, is proxied by the next route.`,
    );
    comments.set(
      `steady_${cluster}_redirect`,
      `A session of ${site}: its client is sent to ${address}, while ${site} is up.`,
    );
    comments.set(`undecided_${cluster}_redirect`, `No decision, but a cookie of ${site}: the same redirect.`);
    comments.set(
      redirectTo(pool),
      `Says 307 to ${address} while ${site} is up by its health check, and refuses otherwise.`,
    );
    comments.set(redirectOrProxy(pool), `The redirect to ${site}, and what that refuses to ${site} or here.`);
    comments.set(withFallback(pool), `To ${site}, or here where ${site} cannot be reached or refuses.`);
  }
  return [...comments];
}

const COMMENTS_BY_KEY: Readonly<Record<string, string>> = {
  early_header_mutation_extensions: "A client's own pool header is gone before anything looks at it.",
  local_reply_config:
    "Envoy's own answers to the status URI have a body; a forwarded request that no server here can take is refused,\n" +
    ' so that the other site serves it.',
  http_protocol_options: 'Monitors speak HTTP/1.0, often without a Host; Java offers TLS upgrades.',
  wait_for_warm_on_init: "This site serves before another site's name is looked up.",
  retriable_statuses:
    'A 5xx counts towards unhealthy_threshold; any other unexpected status takes the server out at once.',
  forward_rules: 'No other header leaves Envoy.',
  static_layer: 'Lets ext_proc streams end without a reset, for Node closes connections with many resets.',
  allow_paths: 'What the sidecar, doctor and Prometheus ask. All else, such as to end Envoy, is refused.',
  admin_layer: 'Where the sidecars keep what they share: which sites are up, drains and holds.',
  overload_manager:
    'envoy.limits: past these Envoy closes connections and refuses requests instead of running out of memory.',
  ignore_global_conn_limit: 'Served also when clients have taken all connections.',
  server_header_transformation: "The application's own Server header reaches the client.",
  normalize_path: 'The server sees the path that the routes and the sidecar have seen.',
  max_concurrent_streams: 'Bounds what one connection can have Envoy keep.',
  dns_refresh_rate: 'An address that moves is known in seconds, whatever the TTL.',
  override_host_status: 'A server that drains keeps its sessions.',
  interval_jitter_percent: 'Not all servers at one moment.',
  cluster_min_healthy_percentages: 'min_up as a share of all servers, in whole percents.',
};

/** The files of `envoy.config_dir` are hundreds, each with what is in its own parts alone. */
const KNOWN_COMMENTS = new WeakMap<Config, ReadonlyMap<string, string>>();
const COMMENTS_OF_KEYS = new Map(Object.entries(COMMENTS_BY_KEY));

export interface Commenter {
  readonly ofPart: (part: JsonObject) => string | null;
  readonly ofKey: (key: string, value: Json) => string | null;
}

/** Says once what a part or a key is for: the next of that name is the same for another method, or at another place. */
export function createCommenter(config: Config, prefix: string): Commenter {
  const byName = KNOWN_COMMENTS.get(config) ?? commentsByName(config);
  KNOWN_COMMENTS.set(config, byName);
  const said = new Set<string>();
  const take = (kind: 'part ' | 'key ', key: string) => {
    const comments = kind === 'part ' ? byName : COMMENTS_OF_KEYS;
    const comment = comments.get(key);
    if (comment === undefined || said.has(`${kind}${key}`)) return null;
    said.add(`${kind}${key}`);
    return ` ${comment}`;
  };
  return {
    ofPart: ({ name }: JsonObject) =>
      typeof name === 'string'
        ? take('part ', byName.has(name) && !said.has(`part ${name}`) ? name : name.slice(prefix.length))
        : null,
    ofKey: (key: string, value: Json) => {
      const isAbout = key !== 'http_protocol_options' || (isObject(value) && value.accept_http_10 !== undefined);
      return isAbout ? take('key ', key) : null;
    },
  };
}
