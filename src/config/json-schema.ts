import { z } from 'zod';
import { allKeys } from './schema.ts';
import { describedAs } from './values.ts';

export type JsonSchema = z.core.JSONSchema.BaseSchema;

/**
 * The JSON schema (draft 7) of the config file: keys, types and the form of values. It takes every file that `check` takes, and some
 * that it does not: what keys must be to each other only `check` knows.
 */
export function configJsonSchema(): JsonSchema {
  return {
    ...jsonSchemaOf(allKeys),
    // One application at the top, or a list of them.
    if: { required: ['applications'] },
    // biome-ignore lint/suspicious/noThenProperty: the keyword's name
    then: { properties: { local_pool: false, remote_pools: false } },
    else: { required: ['local_pool', 'remote_pools'] },
  };
}

function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, {
    io: 'input',
    target: 'draft-7',
    unrepresentable: 'any',
    override({ zodSchema, jsonSchema }) {
      const as = describedAs(zodSchema);
      if (as !== undefined) {
        const { $schema: _, ...rest } = jsonSchemaOf(as);
        for (const key of Object.keys(jsonSchema)) delete jsonSchema[key];
        Object.assign(jsonSchema, rest);
      }
      if (jsonSchema.pattern !== undefined) jsonSchema.pattern = asRe2(jsonSchema.pattern);
    },
  });
}

/** Helm reads patterns as RE2, which has no lookahead and counts to 1000 only. */
function asRe2(pattern: string): string {
  return pattern
    .replace(/^\^\(\?=[^)]*\)/, '^')
    .replace(/\{([01]),\d{4,}\}/g, (_, least) => (least === '0' ? '*' : '+'));
}
