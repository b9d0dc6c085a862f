import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cachedBinary } from '../../lab/binary-cache.ts';

const run = promisify(execFile);

/** What Kubernetes' users check and run with, each at the version that the tests are written for. */
const PACKAGES = {
  helm: 'helm.sh/helm/v3/cmd/helm@v3.22.0',
  kubeconform: 'github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0',
  'kubectl-validate': 'sigs.k8s.io/kubectl-validate@v0.0.5-0.20250915070809-d2f2d68fba09',
  egctl: 'github.com/envoyproxy/gateway/cmd/egctl@v1.9.1',
  'envoy-gateway': 'github.com/envoyproxy/gateway/cmd/envoy-gateway@v1.9.1',
  istioctl: 'istio.io/istio/istioctl/cmd/istioctl@v0.0.0-20260827124520-eed52ebb66ad',
  'pilot-discovery': 'istio.io/istio/pilot/cmd/pilot-discovery@v0.0.0-20260827124520-eed52ebb66ad',
} as const;

export type GoTool = keyof typeof PACKAGES;

/** How long building the largest of them from nothing may take, on a busy machine. */
export const BUILD_TIMEOUT_MS = 1_200_000;

/** Why the tools can't be had here; null where they can. */
export async function whyNoGo(): Promise<string | null> {
  return await run('go', ['version']).then(
    () => null,
    () => 'they are built with Go, which is not installed',
  );
}

/**
 * A tool's binary, from the cache or built by Go.
 * @throws Error where there is no Go or its module proxy can't be reached
 */
export async function goTool(tool: GoTool): Promise<string> {
  const version = PACKAGES[tool].replace(/^.*@/, '');
  return await cachedBinary(`${tool}-${version}`, async (work) => {
    await goInstall(PACKAGES[tool], work);
    return join(work, tool);
  });
}

/**
 * The folder of a Go module's source, where charts and custom resource definitions lie.
 * @param module such as `github.com/envoyproxy/gateway@v1.9.1`
 */
export async function goModule(module: string): Promise<string> {
  const { stdout } = await run('go', ['mod', 'download', '-json', module], { cwd: '/', env: environment() });
  const directory = /"Dir": "([^"]+)"/.exec(stdout)?.[1];
  if (directory === undefined) throw new Error(`go mod download ${module} names no folder`);
  return directory;
}

async function goInstall(name: string, into: string): Promise<void> {
  const env = { ...environment(), GOBIN: into };
  await run('go', ['install', '-ldflags=-s -w', name], { env, maxBuffer: 64 * 1024 * 1024 });
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local' };
}
