import { SERVED_HEADER, SERVED_HERE } from '../contract.ts';
import { overwrite } from './cluster-parts.ts';
import { type JsonObject, typed } from './json.ts';

/** For the upstream filter of the local pool: a server's own header of this name is overwritten. */
export function markServedHere(): JsonObject {
  return { append: overwrite(SERVED_HEADER, SERVED_HERE) };
}

/** For those of all other pools: who answered has set and expired what there is to. */
export function markServedElsewhere(): JsonObject {
  return { append: overwrite(SERVED_HEADER, 'served-elsewhere') };
}

/**
 * A filter whose response half only sees answers that a server of the local pool gave.
 * @param carried to requests, too, that have something that looks like this cookie
 */
export function onlyWhenServedHere(filter: Filter, carried?: { readonly cookie: string }): JsonObject {
  const conditions = [
    header('envoy.type.matcher.v3.HttpResponseHeaderMatchInput', SERVED_HEADER, { exact: SERVED_HERE }),
    ...(carried === undefined
      ? []
      : [header('envoy.type.matcher.v3.HttpRequestHeaderMatchInput', 'cookie', { contains: `${carried.cookie}=` })]),
  ];
  return skippedWhen(
    filter,
    conditions.map((condition) => ({ not_matcher: condition })),
  );
}

/** A filter whose response half sees nothing. */
export function onlyForRequests(filter: Filter): JsonObject {
  const noStatus = header('envoy.type.matcher.v3.HttpResponseHeaderMatchInput', ':status', { exact: 'none' });
  return skippedWhen(filter, [{ not_matcher: noStatus }]);
}

/** A filter whose response half only sees answers that set a cookie with this text in it. */
export function onlyForAnswersThatSet(filter: Filter, text: string): JsonObject {
  const sets = header('envoy.type.matcher.v3.HttpResponseHeaderMatchInput', 'set-cookie', { contains: text });
  return skippedWhen(filter, [{ not_matcher: sets }]);
}

interface Filter {
  readonly name: string;
  readonly typed_config: JsonObject;
}

/** As long as the response has not come a predicate that asks for it holds nothing up: the request half runs. */
function skippedWhen(filter: Filter, predicates: readonly JsonObject[]): JsonObject {
  const skip = {
    action: {
      name: 'skip',
      typed_config: typed('envoy.extensions.filters.common.matcher.action.v3.SkipFilter'),
    },
  };
  return {
    name: filter.name,
    typed_config: typed('envoy.extensions.common.matching.v3.ExtensionWithMatcher', {
      // Envoy goes by the type; the name is only needed.
      extension_config: { name: 'filter', typed_config: filter.typed_config },
      xds_matcher: {
        matcher_list: { matchers: predicates.map((predicate) => ({ predicate, on_match: skip })) },
      },
    }),
  };
}

function header(input: string, header_name: string, value_match: JsonObject): JsonObject {
  return {
    single_predicate: { input: { name: header_name, typed_config: typed(input, { header_name }) }, value_match },
  };
}
