import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeGatewaySites } from '../support/gateway/behaviour.ts';
import { startIstioSites } from '../support/gateway/istio-site.ts';
import { kubectlValidate } from '../support/gateway/kubectl-validate.ts';
import { printManifests, readRecipe } from '../support/gateway/recipe.ts';
import { BUILD_TIMEOUT_MS, goModule, goTool, whyNoGo } from './go-tools.ts';

const run = promisify(execFile);

const SITES = ['east', 'west'] as const;

const MODULE = 'istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad';

/** It says so of every EnvoyFilter, whatever is in it. */
const OF_EVERY_ENVOY_FILTER = /EnvoyFilter exposes internal implementation details/;

const why = await whyNoGo();
const isSkipped = why !== null && process.env.CI === undefined;
if (isSkipped) console.warn(`no manifest is checked: ${why}`);

// Without Kubernetes and its injection of the gateway's container: the control plane has the same resources from files.
describeGatewaySites({
  title: "two sites behind Istio's control plane and an Envoy",
  start: async () => await startIstioSites(await goTool('pilot-discovery')),
  remotePool: 'outbound|8080||gateway.west.example.com',
  refusal: 503,
});

describe.skipIf(isSkipped)('the recipe for Istio, by istioctl', () => {
  let directory: string;
  let istioctl: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'site-persistence-istioctl-'));
    istioctl = await goTool('istioctl');
  }, BUILD_TIMEOUT_MS);
  afterAll(async () => await rm(directory, { recursive: true, force: true }));

  /** What `istioctl validate` has against it. @throws Error where that is more than warnings */
  async function warnings(yaml: string): Promise<string[]> {
    const file = join(directory, 'manifests.yaml');
    await writeFile(file, yaml);
    const { stdout, stderr } = await run(istioctl, ['validate', '--filename', file]);
    // A field that is not known is a warning as well, and the exit code 0.
    return `${stdout}\n${stderr}`
      .split('\n')
      .filter((line) => line.trim() !== '' && !line.endsWith('has warnings: ') && !/ is valid$/.test(line))
      .filter((line) => !OF_EVERY_ENVOY_FILTER.test(line));
  }

  test.each(SITES)('%s: is valid, without a warning', async (site) => {
    expect(await warnings(printManifests(await readRecipe('istio', site)))).toEqual([]);
  });

  test('a field that Envoy does not know would be said', async () => {
    const yaml = printManifests(await readRecipe('istio', 'east'));
    const [said = ''] = await warnings(yaml.replace('grpc_health_check', 'grpc_helth_check'));
    expect(said).toContain('unknown field "grpc_helth_check"');
  });

  test.each(SITES)(
    '%s: is what Kubernetes takes',
    async (site) => {
      const manifests = await readRecipe('istio', site);
      const crds = join(await goModule(MODULE), 'manifests/charts/base/files');
      expect(await kubectlValidate(await goTool('kubectl-validate'), manifests, [crds])).toEqual([]);
    },
    BUILD_TIMEOUT_MS,
  );
});
