import { Document, isAlias, isMap, isPair, isScalar, isSeq, type Pair, Scalar, YAMLMap } from 'yaml';
import { isLoopback } from '../config/address.ts';
import type { Config } from '../config/config.ts';
import { renderBootstrap } from './bootstrap.ts';
import type { Json, JsonObject } from './json.ts';
import {
  ANYWHERE,
  adoptedRoute,
  closingCluster,
  HOP_EDGE,
  keptRoute,
  oneOwnerFilter,
  overHttp1,
  overHttp2,
  SIDECAR_CLUSTER,
  STAND_IN,
  withFallback,
} from './names.ts';

/**
 * The Envoy bootstrap of a site as commented YAML.
 * @throws Error when the config lacks what only rendering needs
 */
export function printBootstrap(config: Config): string {
  const document = new Document(withSharedParts(renderBootstrap(config)), {
    anchorPrefix: 'same',
    // Envoy reads a plain no, on or 0:10 as YAML 1.1 does; of the site's names some may look so.
    schema: 'yaml-1.1',
  });
  document.commentBefore =
    ` Envoy ${config.envoy.version} bootstrap of site ${config.site}, printed by "site-persistence envoy" from the site's\n` +
    ' config file. Change that file and print again instead of editing this one. "timeout: 0s" is no limit: a request may take as\n' +
    ' long as it needs. "*same1" is the part with "&same1" once more.';
  const comments = commentsByName(config);
  const keyComments = new Map(Object.entries(COMMENTS_BY_KEY));
  walk(document.contents, (map) => {
    const name = map.get('name');
    if (typeof name === 'string') {
      const comment = comments.get(name);
      // Once: the next of that name is the same for another method, or at another place.
      comments.delete(name);
      if (comment !== undefined) map.commentBefore = ` ${comment}`;
    }
    for (const pair of map.items) commentKey(pair, keyComments);
  });
  const { admin } = config.envoy;
  const adminNode = document.get('admin', true);
  if (admin.kind === 'tcp' && isMap(adminNode)) {
    const who = isLoopback(admin.host)
      ? 'Every user of this machine'
      : 'UNSAFE: every client that reaches this address';
    adminNode.commentBefore = ` ${who} can ask it. Better envoy.admin: unix:/run/envoy/admin.sock, which is for one group only.`;
  }
  writeShortOnesInline(document.contents, 0);
  return document.toString({ lineWidth: 0, flowCollectionPadding: true });
}

/** A file that the bootstrap refers to, as YAML. */
export function printSecret(content: JsonObject): string {
  const document = new Document(content, { aliasDuplicateObjects: false });
  document.commentBefore =
    ' Where Envoy finds a certificate, printed by "site-persistence envoy". It watches the files that are named here.';
  return document.toString({ lineWidth: 0 });
}

/** What each named part of the config is for. */
function commentsByName(config: Config): Map<string, string> {
  const local = config.localPool.cluster;
  const comments = new Map([
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
    ['fast_local', 'What the sidecar would send to the local pool anyway, while it keeps the key set.'],
    ['decided_forwarded', 'The sidecar says: here. Forwarded by another site, so it is not sent on whatever happens.'],
    ['decided_local', 'The sidecar says: here. What no server here takes is tried at another site.'],
    ['undecided_forwarded', 'No decision, but forwarded by another site: here.'],
    ['undecided_local', 'No decision, and no cookie of another site: here.'],
    [local, 'The local pool: the servers of this site.'],
    [overHttp1(config.localPool), 'The same for WebSockets, which few servers take over HTTP/2.'],
    [closingCluster(local), 'The same for what is open: closed when a server has fallen silent.'],
    [ANYWHERE, 'Without a decision: here, and where no server here takes it at the first site that does.'],
    [SIDECAR_CLUSTER, 'The sidecar, or several of them.'],
    [
      STAND_IN,
      "Local fallback for another site's session, without the sidecar: it gets a server, and so its owner, here.",
    ],
    ['stand_in_forwarded', 'Forwarded by another site: the application is told.'],
  ]);
  for (const pool of config.remotePools) {
    const { site, cluster } = pool;
    comments.set(
      `decided_${cluster}`,
      `The sidecar says: to ${site}, which owns the session. The hop header is added here for the first try, and by the pool's\n` +
        ' upstream filter to a retry that comes from the local pool.',
    );
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
    comments.set(overHttp2(pool), `The same by HTTP/2, up where ${site} speaks it.`);
    comments.set(
      closingCluster(cluster),
      `HTTP/1.1 to ${site} comes through here: what is open to a server that has fallen silent is closed.`,
    );
    comments.set(cluster, `The remote pool: the virtual IP of ${site}, asked for its status.`);
    comments.set(withFallback(pool), `To ${site}, or here where ${site} cannot be reached or refuses.`);
  }
  return comments;
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
  static_layer: 'Lets ext_proc streams end without a reset, which Node takes for an attack in great number.',
  allow_paths: 'What the sidecar, doctor and Prometheus ask. All else, such as to end Envoy, is refused.',
  admin_layer: 'Where the sidecar sets the key of the fast path.',
  cluster_min_healthy_percentages: 'min_up as a share of all servers, in whole percents.',
};

function commentKey(pair: Pair, comments: Map<string, string>): void {
  if (!isScalar(pair.key)) return;
  const key = String(pair.key.value);
  const comment = comments.get(key);
  const isAbout = key !== 'http_protocol_options' || (isMap(pair.value) && pair.value.has('accept_http_10'));
  if (comment === undefined || !isAbout) return;
  comments.delete(key);
  pair.key.commentBefore = ` ${comment}`;
}

/** Shorter than this a repetition is easier to read than a reference. */
const MIN_SHARED_LENGTH = 120;

/** The same value with equal parts as one object each, which is written once, with an anchor. */
function withSharedParts(value: Json): Json {
  const parts = new Map<string, Json>();
  const share = (part: Json): Json => {
    if (typeof part !== 'object' || part === null) return part;
    const text = JSON.stringify(part);
    const known = parts.get(text);
    if (known !== undefined) return known;
    const made: Json = Array.isArray(part)
      ? part.map(share)
      : Object.fromEntries(
          Object.entries(part).flatMap(([key, item]) => (item === undefined ? [] : [[key, share(item)]])),
        );
    if (text.length >= MIN_SHARED_LENGTH) parts.set(text, made);
    return made;
  };
  return share(value);
}

const LINE_WIDTH = 140;

/** Writes each collection that fits a line on one. @returns how wide it is there; infinite where it must not */
function writeShortOnesInline(node: unknown, indent: number): number {
  if (isScalar(node)) return node.commentBefore ? Number.POSITIVE_INFINITY : String(node.value).length + 2;
  if (isAlias(node)) return node.source.length + 1;
  if (!isMap(node) && !isSeq(node)) return Number.POSITIVE_INFINITY;
  let width = 4;
  for (const item of node.items) {
    if (isPair(item)) {
      const key = isScalar(item.key) ? String(item.key.value).length + 4 : Number.POSITIVE_INFINITY;
      const hasComment = isScalar(item.key) && Boolean(item.key.commentBefore);
      width += key + writeShortOnesInline(item.value, indent + 2) + (hasComment ? Number.POSITIVE_INFINITY : 0);
    } else {
      width += 2 + writeShortOnesInline(item, indent + 2);
    }
  }
  if (node.commentBefore || node.anchor) width = Number.POSITIVE_INFINITY;
  node.flow = indent > 0 && indent + width <= LINE_WIDTH;
  if (node.flow)
    for (const item of node.items) for (const part of isPair(item) ? [item.key, item.value] : [item]) quoteInFlow(part);
  return width;
}

/** There commas, colons and question marks mean something, not the same to every reader. */
function quoteInFlow(node: unknown): void {
  if (!isScalar(node) || typeof node.value !== 'string') return;
  if (!/^[\w./-]+$/.test(node.value)) node.type = Scalar.QUOTE_DOUBLE;
}

function walk(node: unknown, onMap: (map: YAMLMap) => void): void {
  if (isMap(node) && node instanceof YAMLMap) {
    onMap(node);
    for (const pair of node.items) walk(pair.value, onMap);
  } else if (isSeq(node)) {
    for (const item of node.items) walk(item, onMap);
  }
}
