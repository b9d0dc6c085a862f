import { readFile } from 'node:fs/promises';
import { configJsonSchema, type JsonSchema } from '../src/config/json-schema.ts';

export const CHART = 'deploy/helm/site-persistence';

/** What the JSON schema of the config file is for editors: `# yaml-language-server: $schema=…`. */
const SITE_SCHEMA = 'docs/site.schema.json';

/**
 * The files of the chart that are made from others of the repository, because a chart can't read outside of its directory, and
 * the JSON schema by itself: by their paths, from the root.
 */
export async function chartFiles(root: string): Promise<ReadonlyMap<string, string>> {
  const copies = ['alerts.yaml', 'grafana-dashboard.json'].map(
    async (name): Promise<[string, string]> => [
      `${CHART}/files/${name}`,
      await readFile(`${root}/docs/${name}`, 'utf8'),
    ],
  );
  return new Map([
    ...(await Promise.all(copies)),
    [SITE_SCHEMA, print(configJsonSchema())],
    [`${CHART}/values.schema.json`, print(valuesSchema())],
  ]);
}

const print = (schema: JsonSchema) => `${JSON.stringify(schema, null, 2)}\n`;

/** The config file at the top, and beside it what only Kubernetes needs. */
function valuesSchema(): JsonSchema {
  const { required: _, if: hasApplications, then, else: otherwise, ...site } = configJsonSchema();
  return {
    ...site,
    properties: { ...site.properties, kubernetes: KUBERNETES, global: { type: 'object' } },
    required: ['kubernetes'],
    // The chart's own values, as helm lint takes them, name no site: of that the templates complain.
    if: { required: ['site'] },
    // biome-ignore lint/suspicious/noThenProperty: the keyword's name
    then: { if: hasApplications ?? true, then: then ?? true, else: otherwise ?? true },
  };
}

/** A mapping that takes no other keys. */
function keys(properties: Record<string, JsonSchema>, ...required: string[]): JsonSchema {
  return { type: 'object', properties, required, additionalProperties: false };
}

function listOf(items: JsonSchema): JsonSchema {
  return { type: 'array', items };
}

const text: JsonSchema = { type: 'string' };
const name: JsonSchema = { type: 'string', pattern: '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$' };
const flag: JsonSchema = { type: 'boolean' };
const port: JsonSchema = { type: 'integer', minimum: 1, maximum: 65535 };
const seconds: JsonSchema = { type: 'integer', minimum: 0, maximum: 3600 };
const texts: JsonSchema = { type: 'object', additionalProperties: text };
/** Kubernetes' own, which checks it. */
const kubernetesObject: JsonSchema = { type: 'object' };
const image = keys({ repository: text, tag: text, pullPolicy: { enum: ['Always', 'IfNotPresent', 'Never'] } });
const resources = keys({ requests: kubernetesObject, limits: kubernetesObject });
const podsOrPercent: JsonSchema = { type: ['integer', 'string'], pattern: '^\\d+%$' };

const KUBERNETES = keys({
  replicas: { type: 'integer', minimum: 0 },
  image,
  imagePullSecrets: listOf(keys({ name }, 'name')),
  envoy: keys({
    image,
    concurrency: { type: 'integer', minimum: 1 },
    logLevel: { enum: ['trace', 'debug', 'info', 'warning', 'error', 'critical', 'off'] },
    resources,
  }),
  sidecar: keys({ logLevel: { enum: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] }, resources }),
  overlay: kubernetesObject,
  secrets: listOf(name),
  service: keys({
    type: { enum: ['ClusterIP', 'NodePort', 'LoadBalancer'] },
    port,
    hopPort: port,
    externalTrafficPolicy: { enum: ['Local', 'Cluster'] },
    annotations: texts,
    loadBalancerClass: { type: ['string', 'null'] },
    loadBalancerSourceRanges: listOf(text),
  }),
  applicationServices: listOf(keys({ name, port, selector: texts }, 'name', 'port', 'selector')),
  podDisruptionBudget: keys({ enabled: flag, minAvailable: podsOrPercent, maxUnavailable: podsOrPercent }),
  networkPolicy: keys({
    enabled: flag,
    from: listOf(kubernetesObject),
    metricsFrom: listOf(kubernetesObject),
    extraEgress: listOf(kubernetesObject),
  }),
  monitoring: keys({
    podMonitor: flag,
    prometheusRule: flag,
    dashboard: flag,
    interval: { type: 'string', pattern: '^\\d+(ms|s|m)$' },
    labels: texts,
    dashboardLabels: texts,
  }),
  drain: keys({ minSeconds: seconds, maxSeconds: seconds }),
  topologySpreadConstraints: listOf(kubernetesObject),
  nodeSelector: texts,
  tolerations: listOf(kubernetesObject),
  affinity: kubernetesObject,
  priorityClassName: text,
  podAnnotations: texts,
  podLabels: texts,
});
