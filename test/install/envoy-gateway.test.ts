import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { findingsIn } from '../support/doctor-site.ts';
import { describeGatewaySites } from '../support/gateway/behaviour.ts';
import { type Translation, translate } from '../support/gateway/egctl.ts';
import { startEnvoyGatewaySites } from '../support/gateway/envoy-gateway-site.ts';
import { kubectlValidate } from '../support/gateway/kubectl-validate.ts';
import { readRecipe, siteYaml } from '../support/gateway/recipe.ts';
import { isTree, list, type Tree, tree } from '../support/json-tree.ts';
import { BUILD_TIMEOUT_MS, goModule, goTool, whyNoGo } from './go-tools.ts';

const run = promisify(execFile);

const SITES = ['east', 'west'] as const;

const MODULE = 'github.com/envoyproxy/gateway@v1.9.1';

/** What the recipe does without. */
const TOLD = [
  'warn Envoy: admin paths',
  'warn Filter ext_proc: header limits',
  'warn Filter ext_proc: headers sent',
  'warn Filters after it: own answers',
  'warn Routes: held',
  'warn Routes: drained',
  "warn Envoy's own answers: the servers' own",
  "warn Envoy's own answers: the servers' own",
  "warn Envoy's own answers: the other sites' own",
  "warn Envoy's own answers: the other sites' own",
];

const why = await whyNoGo();
const isSkipped = why !== null && process.env.CI === undefined;
if (isSkipped) console.warn(`no manifest is checked: ${why}`);

describeGatewaySites({
  title: 'two sites behind Envoy Gateway, standalone',
  start: async () => await startEnvoyGatewaySites(await goTool('envoy-gateway')),
  remotePool: 'httproute/shop/shop/rule/1',
  refusal: 421,
});

describe.skipIf(isSkipped)('the recipe for Envoy Gateway, translated by egctl', () => {
  let directory: string;
  const translations = new Map<string, Translation>();

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'site-persistence-egctl-'));
    const egctl = await goTool('egctl');
    for (const site of SITES) {
      const own = join(directory, site);
      await mkdir(own);
      const manifests = await readRecipe('envoy-gateway', site);
      translations.set(site, await translate(egctl, manifests, own));
      await writeFile(join(own, 'site.yaml'), siteYaml(manifests));
    }
  }, BUILD_TIMEOUT_MS);
  afterAll(async () => await rm(directory, { recursive: true, force: true }));

  function translationOf(site: string): Translation {
    const translation = translations.get(site);
    if (translation === undefined) throw new Error(`${site} is not translated`);
    return translation;
  }

  test.each(SITES)('%s: Envoy Gateway takes every resource, and has nothing to say against one', (site) => {
    const { conditions } = translationOf(site);
    const kinds = new Set(conditions.map(({ of }) => of));
    expect([...kinds].toSorted()).toEqual([
      ...[
        'backendTrafficPolicies',
        'backends',
        'clientTrafficPolicies',
        'envoyExtensionPolicies',
        'envoyPatchPolicies',
      ],
      ...['envoyProxiesForGateways', 'envoyProxyForGatewayClass', 'gatewayClass', 'gateways', 'httpRoutes'],
    ]);
    // A warning is a condition of its own.
    expect(conditions.filter(({ type, status }) => status !== 'True' || type === 'Warning')).toEqual([]);
  });

  test.each(SITES)(
    '%s: is what Kubernetes takes',
    async (site) => {
      const manifests = await readRecipe('envoy-gateway', site);
      const crds = join(await goModule(MODULE), 'charts/gateway-helm/charts/crds/crds');
      const folders = [crds, join(crds, 'generated')];
      expect(await kubectlValidate(await goTool('kubectl-validate'), manifests, folders)).toEqual([]);
    },
    BUILD_TIMEOUT_MS,
  );

  // A patch that hits nothing is not reported.
  test.each(SITES)('%s: every patch is in the translation', (site) => {
    const { dump } = translationOf(site);
    const other = site === 'east' ? 'west' : 'east';
    const cluster = (name: string) => found(dump, 'cluster', name);
    for (const rule of [0, 1, 2]) {
      const pool = cluster(`httproute/shop/shop/rule/${rule}`);
      expect(pool).toMatchObject({
        commonLbConfig: { updateMergeWindow: '0s' },
        healthChecks: [{ noTrafficInterval: '1s' }],
      });
      if (rule === 0) continue;
      const hop = { requestHeadersToAdd: [{ header: { key: 'x-site-hop', value: site } }] };
      expect(pool).toMatchObject({ healthChecks: [{ httpHealthCheck: hop }] });
    }
    expect(cluster('envoyextensionpolicy/shop/site-persistence/extproc/0')).toMatchObject({
      healthChecks: [{ noTrafficInterval: '1s', grpcHealthCheck: { authority: 'sidecar' } }],
    });
    const manager = tree(
      list(found(dump, 'listener', 'shop/site-persistence/http'), 'defaultFilterChain', 'filters'),
      ...[0, 'typedConfig'],
    );
    const filter = (name: string) => tree(list(manager, 'httpFilters'), `name=${name}`, 'typedConfig');
    expect(filter('envoy.filters.http.health_check')).toMatchObject({
      clusterMinHealthyPercentages: { 'httproute/shop/shop/rule/0': { value: 1 } },
    });
    const extProc = filter('envoy.filters.http.ext_proc/envoyextensionpolicy/shop/site-persistence/extproc/0');
    expect(tree(extProc, 'grpcService')).not.toHaveProperty('timeout');
    const [refusal, up, down] = list(manager, 'localReplyConfig', 'mappers');
    expect(refusal).toMatchObject({
      statusCode: 421,
      headersToAdd: [{ header: { key: 'x-site-refused', value: site } }],
    });
    expect(JSON.stringify(refusal)).toContain(`"exact":"${other}"`);
    const text = (says: string) => ({
      bodyFormatOverride: { textFormatSource: { inlineString: `LOCAL POOL STATE: ${says}` } },
    });
    expect(up).toMatchObject(text('UP'));
    expect(down).toMatchObject(text('DOWN'));
    const bootstrap = tree(
      list(dump, 'configs').find((of) => isTree(of) && 'bootstrap' in of),
      'bootstrap',
    );
    expect(list(bootstrap, 'layeredRuntime', 'layers')).toContainEqual({ name: 'admin', adminLayer: {} });
  });

  test.each(SITES)('%s: doctor finds nothing wrong in it, and this to say', async (site) => {
    const { dumpFile } = translationOf(site);
    const { stdout } = await run(process.execPath, [
      ...[CLI, 'doctor', '--json', '--config', join(directory, site, 'site.yaml'), '--config-dump', dumpFile],
    ]).catch((error: { readonly stdout: string }) => error);
    const said = findingsIn(stdout).filter(({ mark }) => mark !== 'ok' && mark !== 'unchecked');
    expect(said.map(({ mark, group, check }) => `${mark} ${group}: ${check}`)).toEqual(TOLD);
  });
});

/** The cluster or listener of this name in Envoy's config. */
function found(dump: Tree, kind: 'cluster' | 'listener', name: string): Tree {
  const all: Tree[] = [];
  function visit(value: unknown): void {
    if (Array.isArray(value)) for (const item of value) visit(item);
    if (!isTree(value)) return;
    const own = value[kind];
    if (isTree(own)) all.push(own);
    for (const item of Object.values(value)) visit(item);
  }
  visit(dump.configs);
  return tree(all, `name=${name}`);
}
