import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { z } from 'zod';
import { cacheDirectory } from '../../lab/binary-cache.ts';
import { goModule } from './go-tools.ts';

const run = promisify(execFile);

/** Kubernetes, by the PyPI package that carries its schemas, and Prometheus Operator. */
const KUBERNETES = '1.37.0';
const OPERATOR = 'v0.85.0';

/** What the chart has of Kubernetes' own kinds, and what they refer to. */
const CORE = [
  ...['_definitions', 'configmap-v1', 'service-v1', 'serviceaccount-v1', 'deployment-apps-v1'],
  ...['networkpolicy-networking-v1', 'poddisruptionbudget-policy-v1'],
];

const CRDS = ['podmonitors', 'prometheusrules'];

/**
 * Where kubeconform finds schemas that refuse unknown fields: of Kubernetes' own kinds, and of those of Prometheus Operator.
 * @returns the values of its option -schema-location
 */
export async function schemaLocations(): Promise<string[]> {
  const directory = join(cacheDirectory(), `kubernetes-schemas-${KUBERNETES}-${OPERATOR}`);
  const there = await access(directory).then(
    () => true,
    () => false,
  );
  if (!there) await fetchSchemas(directory);
  return [`${directory}/core/{{.ResourceKind}}{{.KindSuffix}}.json`, `${directory}/crds/{{.ResourceKind}}.json`];
}

async function fetchSchemas(directory: string): Promise<void> {
  await mkdir(cacheDirectory(), { recursive: true });
  const work = await mkdtemp(join(cacheDirectory(), 'fetch-'));
  try {
    const pip = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', work, `kubernetes-validate==${KUBERNETES}`];
    await run('python3', pip);
    const wheel = `${work}/kubernetes_validate-${KUBERNETES}-py3-none-any.whl`;
    await run('python3', ['-m', 'zipfile', '-e', wheel, `${work}/wheel`]);
    const made = `${work}/made`;
    await mkdir(`${made}/crds`, { recursive: true });
    const all = `${work}/wheel/kubernetes_validate/kubernetes-json-schema/v${KUBERNETES}-local-strict`;
    await mkdir(`${made}/core`);
    for (const name of CORE) {
      const schema: unknown = JSON.parse(await readFile(`${all}/${name}.json`, 'utf8'));
      // Files find each other by their names once they have no address on a server.
      const text = JSON.stringify({ ...z.record(z.string(), z.unknown()).parse(schema), $id: undefined });
      await writeFile(`${made}/core/${name}.json`, text.replaceAll('"/api/_definitions.json#', '"_definitions.json#'));
    }
    for (const name of CRDS) await writeCrdSchema(name, `${made}/crds`);
    await rename(made, directory);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

const crd = z.object({
  spec: z.object({
    names: z.object({ kind: z.string() }),
    versions: z.tuple([z.object({ schema: z.object({ openAPIV3Schema: z.unknown() }) })]),
  }),
});

async function writeCrdSchema(name: string, directory: string): Promise<void> {
  const module = await goModule(`github.com/prometheus-operator/prometheus-operator@${OPERATOR}`);
  const file = `${module}/example/prometheus-operator-crd/monitoring.coreos.com_${name}.yaml`;
  const { names, versions } = crd.parse(parse(await readFile(file, 'utf8'))).spec;
  const schema = JSON.stringify(strict(versions[0].schema.openAPIV3Schema));
  await writeFile(`${directory}/${names.kind.toLowerCase()}.json`, schema);
}

/** As the API server takes it with strict field validation. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== 'object' || schema === null) return schema;
  const of = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  // Of metadata the definition says no more than its type.
  return 'properties' in of && !('additionalProperties' in of) && !('x-kubernetes-preserve-unknown-fields' in of)
    ? { ...of, additionalProperties: false }
    : of;
}
