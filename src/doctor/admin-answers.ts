import { Agent } from 'node:http';
import type { Address } from '../config/address.ts';
import { AdminError } from '../health/admin-client.ts';
import { HttpRequestError, httpRequest } from '../http-request.ts';
import { textAt } from './json.ts';

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
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const get = (endpoint: AdminEndpoint) => ask(endpoint, { admin, agent, signal });
  try {
    // One after the other: Envoy's administration is one thread, which the sidecar's polls need as well.
    const serverInfo = await get('serverInfo');
    if ('json' in serverInfo && textAt(serverInfo.json, 'version') === undefined) {
      throw new AdminError('ADMIN_BAD_ANSWER', `its answer to GET ${pathOf('serverInfo')} has no version`);
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
    agent.destroy();
  }
}

/** The path of an endpoint as an operator knows it: without the query. */
export function pathOf(endpoint: AdminEndpoint): string {
  return PATHS[endpoint].replace(/\?.*/, '');
}

interface Connection {
  readonly admin: Address;
  readonly agent: Agent;
  readonly signal: AbortSignal;
}

async function ask(endpoint: AdminEndpoint, { admin, agent, signal }: Connection): Promise<AdminAnswer> {
  try {
    const path = PATHS[endpoint];
    const { status, body } = await httpRequest(admin, {
      ...{ method: 'GET', path, timeoutMs: TIMEOUT_MS, maxBytes: MAX_ANSWER_BYTES },
      ...{ agent, signal },
    });
    // `allow_paths` of the admin interface answers 403.
    if (status !== 200) return { why: `GET ${pathOf(endpoint)} was answered ${status}` };
    return { json: JSON.parse(body) };
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw new AdminError('ADMIN_BAD_ANSWER', `its answer to GET ${pathOf(endpoint)} is not JSON`, { cause: error });
    }
    if (!(error instanceof HttpRequestError)) throw error;
    const code = error.code === 'HTTP_TIMEOUT' ? 'ADMIN_TIMEOUT' : 'ADMIN_UNREACHABLE';
    throw new AdminError(code, error.message, { cause: error });
  }
}
