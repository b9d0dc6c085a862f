import type { Address } from '../config/address.ts';
import { type AdminConnection, AdminError, openAdminConnection, pathOf } from './connection.ts';

/** An Envoy with ten thousand hosts takes its time to write them down. */
const TIMEOUT_MS = 10_000;
/** It has the whole config, and is asked once: nothing else waits for it. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** What each endpoint is asked for. The stats are only those that a check reads. */
const PATHS = {
  serverInfo: '/server_info',
  configDump: '/config_dump',
  clusters: '/clusters?format=json',
  listeners: '/listeners?format=json',
  runtime: '/runtime?format=json',
  stats: `/stats?format=json&filter=${encodeURIComponent(
    [
      '^(http\\..*ext_proc\\..*',
      'cluster\\..*\\.(membership_(healthy|total)|upstream_rq_active|upstream_.*_overflow)',
      'sds\\..*\\.(update_success|update_rejected|key_rotation_failed)',
      '(cluster|listener)\\..*\\.ssl\\.certificate\\..*\\.expiration_unix_time_seconds)$',
    ].join('|'),
  )}`,
} as const;

export type AdminEndpoint = keyof typeof PATHS;

/** JSON of whatever shape, or why there is none. */
export type AdminAnswer = { readonly json: unknown } | { readonly why: string };

export type AdminAnswers = Readonly<Record<AdminEndpoint, AdminAnswer>>;

/**
 * Asks an Envoy for all that the checks look at.
 * @throws AdminError when nothing answers, or what answers is no Envoy
 */
export async function askEnvoy(admin: Address, signal: AbortSignal): Promise<AdminAnswers> {
  const connection = openAdminConnection(admin, TIMEOUT_MS);
  signal.addEventListener('abort', connection.close, { once: true });
  const get = (endpoint: AdminEndpoint) => ask(endpoint, connection);
  try {
    // One after the other: Envoy's administration is one thread, which the sidecar's polls need as well.
    const serverInfo = await get('serverInfo');
    if ('json' in serverInfo && !hasVersion(serverInfo.json)) {
      throw new AdminError('ADMIN_BAD_ANSWER', `its answer to GET ${endpointPath('serverInfo')} has no version`);
    }
    const answers = {
      serverInfo,
      configDump: await get('configDump'),
      clusters: await get('clusters'),
      listeners: await get('listeners'),
      runtime: await get('runtime'),
      stats: await get('stats'),
    };
    if ('why' in serverInfo && Object.values(answers).every((answer) => 'why' in answer)) {
      throw new AdminError('ADMIN_BAD_ANSWER', serverInfo.why);
    }
    return answers;
  } finally {
    signal.removeEventListener('abort', connection.close);
    connection.close();
  }
}

/** The path of an endpoint as an operator knows it: without the query. */
export function endpointPath(endpoint: AdminEndpoint): string {
  return pathOf(PATHS[endpoint]);
}

async function ask(endpoint: AdminEndpoint, connection: AdminConnection): Promise<AdminAnswer> {
  const { status, body } = await connection.ask('GET', PATHS[endpoint], MAX_ANSWER_BYTES);
  // `allow_paths` of the admin interface answers 403.
  if (status !== 200) return { why: `GET ${endpointPath(endpoint)} was answered ${status}` };
  try {
    return { json: JSON.parse(body) };
  } catch (error) {
    throw new AdminError('ADMIN_BAD_ANSWER', `its answer to GET ${endpointPath(endpoint)} is not JSON`, {
      cause: error,
    });
  }
}

function hasVersion(answer: unknown): boolean {
  return typeof answer === 'object' && answer !== null && 'version' in answer && typeof answer.version === 'string';
}
