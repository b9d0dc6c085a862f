import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parseAllDocuments, stringify } from 'yaml';
import { isTree, type Tree, tree } from '../json-tree.ts';

const run = promisify(execFile);

export type SiteName = 'east' | 'west';

const DEPLOY = new URL('../../../deploy/', import.meta.url);

/** What the recipes are for. */
export const GATEWAY_HOST = 'shop.example.com';

/** The port of the recipes' gateways. */
export const GATEWAY_PORT = 8080;

/** A site's manifests: those of west as the first lines of east's say that they are made. */
export async function readRecipe(name: 'envoy-gateway' | 'istio', site: SiteName): Promise<Tree[]> {
  const file = fileURLToPath(new URL(`${name}/east.yaml`, DEPLOY));
  const east = await readFile(file, 'utf8');
  const [, sites, cookies] = /# +sed -e '([^']+)' -e '([^']+)' east\.yaml/.exec(east) ?? [];
  if (sites === undefined || cookies === undefined) throw new Error(`${file} does not say how west's is made`);
  const text = site === 'east' ? east : (await run('sed', ['-e', sites, '-e', cookies, file])).stdout;
  return parseAllDocuments(text).map((document) => {
    const manifest: unknown = document.toJS();
    if (!isTree(manifest)) throw new Error('a manifest is not a mapping');
    return manifest;
  });
}

/** The manifest of this kind, and name where there are several. @throws Error where there is none */
export function manifest(manifests: readonly Tree[], kind: string, name?: string): Tree {
  const found = manifests.find((of) => of.kind === kind && (name === undefined || tree(of, 'metadata').name === name));
  if (found === undefined) throw new Error(`the recipe has no ${kind} ${name ?? ''}`);
  return found;
}

/** The sidecar's config file in the recipe. */
export function siteYaml(manifests: readonly Tree[]): string {
  return String(tree(manifest(manifests, 'ConfigMap'), 'data')['site.yaml']);
}

/** Manifests as a file. */
export function printManifests(manifests: readonly Tree[]): string {
  return manifests.map((of) => stringify(of, { aliasDuplicateObjects: false })).join('---\n');
}
