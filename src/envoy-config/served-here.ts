import { type JsonObject, typed } from './json.ts';

/**
 * The mark on an answer that a server of the local pool gave. Envoy's own 503 has none, nor has an answer of another site
 * that a retry has led to. A hop-by-hop header, because Envoy removes those from each answer after its last filter, so that
 * the mark gets no further and costs nothing to take away; a server's own is overwritten.
 */
const MARK = { key: 'proxy-connection', value: 'served-here' } as const;

/** For the upstream filter of the local pool. */
export function markServedHere(): JsonObject {
  return { append: { header: MARK, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' } };
}

/** A filter whose response half only sees answers that a server of the local pool gave. */
export function onlyWhenServedHere(filter: { readonly name: string; readonly typed_config: JsonObject }): JsonObject {
  const isMarked = {
    single_predicate: {
      input: {
        name: 'mark',
        typed_config: typed('envoy.type.matcher.v3.HttpResponseHeaderMatchInput', { header_name: MARK.key }),
      },
      value_match: { exact: MARK.value },
    },
  };
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
      xds_matcher: { matcher_list: { matchers: [{ predicate: { not_matcher: isMarked }, on_match: skip }] } },
    }),
  };
}
