import type { Application, Config } from '../config/config.ts';
import { HOP_HEADER, REFUSED_HEADER, STATUS_CONTENT_TYPE, statusBody } from '../contract.ts';
import { escapeRegex } from '../envoy-admin/regex.ts';
import { overwrite } from './cluster-parts.ts';
import { type JsonObject, typed } from './json.ts';

// What becomes of an answer that Envoy gives itself; of these mappers the first that matches wins.

/**
 * In the moment before anyone has noticed that the local pool is down, Envoy's own 503 to a forwarded request must be
 * a refusal as well: no server has seen the request (no healthy host: UH; no connection: UF), so the site that sent it
 * can serve it.
 * @param conditions access log filters that must hold as well
 */
export function refusalsOfEnvoy(
  { site, envoy, refusalStatus }: Pick<Config, 'site' | 'envoy' | 'refusalStatus'>,
  conditions: readonly JsonObject[],
): JsonObject[] {
  const headers_to_add = [overwrite(REFUSED_HEADER, site)];
  const refused = { headers_to_add, ...(refusalStatus === 503 ? {} : { status_code: refusalStatus }) };
  const isUnserved = { response_flag_filter: { flags: ['UH', 'UF'] } };
  return [
    { filter: all([isUnserved, ...conditions]), ...refused },
    { ...tooLargeToRepeat(conditions), ...refused },
    ...(envoy.limits.heapBytes === null ? [] : [{ filter: all([...conditions, isOverloaded()]), ...refused }]),
  ];
}

/** By the reason that Envoy gives for its answer. */
export const OVERLOADED = "response.code_details == 'overload'";

/** Refused before anything has looked at it; of this Envoy sets no response flag. */
function isOverloaded(): JsonObject {
  return {
    extension_filter: {
      name: 'envoy.access_loggers.extension_filters.cel',
      typed_config: typed('envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter', {
        expression: OVERLOADED,
      }),
    },
  };
}

/**
 * An upload that grew past `request_body_buffer_limit` between two tries. Envoy says 507 then, but no server has seen the request,
 * and it is no less a 503 than what it would have said after the last try.
 */
export function tooLargeToRepeat(conditions: readonly JsonObject[]): JsonObject {
  return { filter: all([hasStatus(507), ...conditions]), status_code: 503 };
}

function all(filters: readonly JsonObject[]): JsonObject {
  const [only] = filters;
  return filters.length === 1 && only !== undefined ? only : { and_filter: { filters } };
}

export function hasStatus(status: number): JsonObject {
  return { status_code_filter: { comparison: { op: 'EQ', value: { default_value: status, runtime_key: 'unused' } } } };
}

export function isForwarded(): JsonObject {
  return { header_filter: { header: { name: HOP_HEADER, present_match: true } } };
}

/** The health_check filter answers without a body, which is what monitors look at. */
export function statusAnswers(application: Application): JsonObject[] {
  return [true, false].map((up) => ({
    filter: {
      and_filter: {
        filters: [
          { header_filter: { header: { name: ':path', string_match: { safe_regex: isStatusUri(application) } } } },
          hasStatus(up ? 200 : 503),
        ],
      },
    },
    headers_to_add: [overwrite('cache-control', 'no-store')],
    body_format_override: { text_format_source: { inline_string: statusBody(up) }, content_type: STATUS_CONTENT_TYPE },
  }));
}

/** The status URI, with a query or without. */
export function isStatusUri({ statusUri }: Application): JsonObject {
  return { regex: `${escapeRegex(statusUri)}(\\?\\C*)?` };
}
