import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isTree, type Tree, tree } from '../json-tree.ts';
import { printManifests } from './recipe.ts';

const run = promisify(execFile);

export interface Condition {
  /** The resource that it is of, such as `httpRoutes`. */
  readonly of: string;
  readonly type: string;
  readonly status: string;
  readonly message: string;
}

export interface Translation {
  /** What Envoy Gateway says of the resources. */
  readonly conditions: readonly Condition[];
  /** Envoy's config, as an answer to `GET /config_dump` has it. */
  readonly dump: Tree;
  /** A file with it. */
  readonly dumpFile: string;
}

/** What Envoy Gateway makes of manifests and the application's Service, without running anything. @throws Error with what egctl says against them */
export async function translate(egctl: string, manifests: readonly Tree[], directory: string): Promise<Translation> {
  const app = {
    ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'app', namespace: 'shop' } },
    spec: { clusterIP: '10.96.1.2', ports: [{ name: 'http', port: 8080 }] },
  };
  const input = join(directory, 'input.yaml');
  await writeFile(input, printManifests([...manifests, app]));
  const args = [
    'x',
    'translate',
    '--from',
    'gateway-api',
    '--to',
    'gateway-api,xds',
    '--type',
    'all',
    '--output',
    'json',
  ];
  const { stdout } = await run(egctl, [...args, '--file', input], { maxBuffer: 64 * 1024 * 1024 });
  const { xds, ...resources }: Tree = JSON.parse(stdout);
  const dump = tree(xds, 'shop/site-persistence');
  const dumpFile = join(directory, 'dump.json');
  await writeFile(dumpFile, JSON.stringify(dump));
  return { conditions: conditionsIn(resources), dump, dumpFile };
}

function conditionsIn(resources: Tree): Condition[] {
  const found: Condition[] = [];
  function visit(value: unknown, of: string): void {
    if (Array.isArray(value)) for (const item of value) visit(item, of);
    if (!isTree(value)) return;
    if (Array.isArray(value.conditions)) {
      for (const { type, status, message } of value.conditions.filter(isTree)) {
        found.push({ of, type: String(type), status: String(status), message: String(message) });
      }
    }
    for (const item of Object.values(value)) visit(item, of);
  }
  for (const [of, value] of Object.entries(resources)) visit(value, of);
  return found;
}
