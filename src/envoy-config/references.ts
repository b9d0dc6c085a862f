import { isObject, type Json, type JsonObject } from './json.ts';

/** Where a cluster or a listener is named; elsewhere the same text may mean something else. */
const REFERENCES = ['cluster', 'cluster_name', 'server_listener_name'];

/** Lists of such names, or of what has one. */
const LISTS = ['clusters', 'listeners'];

/** The same config with other names of clusters and listeners: where they are made, and wherever something leads to them. */
export function mapNames(config: JsonObject, rename: (name: string) => string): JsonObject {
  return mapMembers(config, rename);
}

function mapMembers(object: JsonObject, rename: (name: string) => string): JsonObject {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, mapValue(value, key, rename)]));
}

function mapValue(value: Json | undefined, key: string, rename: (name: string) => string): Json | undefined {
  if (typeof value === 'string') return REFERENCES.includes(key) ? rename(value) : value;
  if (Array.isArray(value)) {
    return value.map((item: Json) => {
      const isNamed = LISTS.includes(key);
      if (typeof item === 'string') return isNamed ? rename(item) : item;
      if (!isObject(item)) return item;
      const inside = mapMembers(item, rename);
      return isNamed && typeof inside.name === 'string' ? { ...inside, name: rename(inside.name) } : inside;
    });
  }
  return isObject(value) ? mapMembers(value, rename) : value;
}
