import { mkdir, rename, symlink, writeFile } from 'node:fs/promises';
import { parseAllDocuments, stringify } from 'yaml';
import { z } from 'zod';
import { waitUntil } from '../../lab/wait-until.ts';
import { NODE_IMAGE, type Podman, ROOT } from './podman.ts';

const SIDECARS = ['sidecar-1', 'sidecar-2'];

const container = z.looseObject({
  name: z.string(),
  lifecycle: z.object({ preStop: z.object({ exec: z.object({ command: z.array(z.string()) }) }) }),
});
const deployment = z.looseObject({
  kind: z.literal('Deployment'),
  spec: z.looseObject({
    template: z.looseObject({ spec: z.looseObject({ containers: z.array(container) }) }),
  }),
});

/** A release of the chart with one pod, and two pods of its application, that Podman plays in one network. */
export class PlayedSite {
  readonly site: string;
  readonly #podman: Podman;
  readonly #network: string;
  /** What is played, by name. */
  readonly #files = new Map<string, string>();
  #hooks = new Map<string, readonly string[]>();
  #edits = 0;
  #address = '';

  constructor(podman: Podman, network: string, site: string) {
    this.#podman = podman;
    this.#network = network;
    this.site = site;
  }

  /** The edge, from this machine. */
  get edge(): string {
    return `http://${this.#address}:8080`;
  }

  get address(): string {
    return this.#address;
  }

  /** @param rendered what `helm template` printed */
  async play(rendered: string): Promise<void> {
    for (const server of ['app-1', 'app-2']) await this.#play(`${this.site}-${server}`, this.#application(server));
    const manifests = parseAllDocuments(rendered).map((document): unknown => document.toJS());
    const played = manifests
      .filter((manifest) => isKind(manifest, 'ConfigMap', 'Deployment'))
      .map((manifest) => {
        const { data } = deployment.safeParse(manifest);
        return data === undefined ? manifest : this.#asPodmanPlays(data);
      });
    await this.#play(
      this.site,
      played.map((manifest) => stringify(manifest, { aliasDuplicateObjects: false })).join('---\n'),
    );
    const infra = await this.#podman.run('pod', 'inspect', this.#pod, '--format', '{{.InfraContainerID}}');
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    this.#address = (await this.#podman.run('inspect', infra.trim(), '--format', format)).trim();
    await this.waitUntilReady();
  }

  /** As the probes ask: Envoy and both sidecars are ready. */
  async waitUntilReady(): Promise<void> {
    for (const path of [':9902/ready', ':9091/readyz', ':9092/readyz']) {
      const isReady = async () => (await statusOf(`http://${this.#address}${path}`)) === 200;
      await waitUntil(isReady, { what: `${this.site}${path}`, timeoutMs: 60_000 });
    }
  }

  async exec(name: string, ...command: readonly string[]): Promise<string> {
    return await this.#podman.run('exec', `${this.#pod}-${name}`, ...command);
  }

  async command(verb: string, name: string): Promise<void> {
    await this.#podman.run(verb, `${this.#pod}-${name}`);
  }

  async startedAt(name: string): Promise<string> {
    return (await this.#podman.run('inspect', `${this.#pod}-${name}`, '--format', '{{.State.StartedAt}}')).trim();
  }

  async logs(): Promise<string> {
    const logs = ['envoy', ...SIDECARS].map((name) => this.#podman.run('logs', '--tail', '5', `${this.#pod}-${name}`));
    return (await Promise.all(logs.map((log) => log.catch(String)))).join('\n');
  }

  /** An application's pod is deleted: its address leads nowhere. */
  async removeApplication(server: string): Promise<void> {
    const name = `${this.site}-${server}`;
    await this.#podman.run('pod', 'rm', '--force', '--time', '0', name);
    this.#files.delete(name);
  }

  /** As the kubelet brings an edit of a ConfigMap: files are links into a directory that a link names, which it replaces. */
  async editConfigMap(files: Readonly<Record<string, string>>): Promise<void> {
    const mount = (await this.#podman.run('volume', 'inspect', this.site, '--format', '{{.Mountpoint}}')).trim();
    this.#edits += 1;
    const version = `..${this.#edits}`;
    await mkdir(`${mount}/${version}`);
    for (const [name, text] of Object.entries(files)) await writeFile(`${mount}/${version}/${name}`, text);
    await symlink(version, `${mount}/..data_tmp`);
    await rename(`${mount}/..data_tmp`, `${mount}/..data`);
    if (this.#edits > 1) return;
    for (const name of Object.keys(files)) {
      await symlink(`..data/${name}`, `${mount}/${name}.new`);
      await rename(`${mount}/${name}.new`, `${mount}/${name}`);
    }
  }

  /** What the kubelet runs at once when the pod ends, before it sends SIGTERM. */
  async runPreStopHooks(): Promise<void> {
    await Promise.all([...this.#hooks.keys()].map((name) => this.runPreStopHook(name)));
  }

  async runPreStopHook(name: string): Promise<void> {
    await this.exec(name, ...(this.#hooks.get(name) ?? []));
  }

  async down(): Promise<void> {
    for (const file of this.#files.values()) await this.#podman.run('kube', 'down', file);
    this.#files.clear();
  }

  get #pod(): string {
    return `${this.site}-pod-0`;
  }

  async #play(name: string, text: string): Promise<void> {
    const file = await this.#podman.file(`${name}.yaml`, text);
    this.#files.set(name, file);
    await this.#podman.run('kube', 'play', '--network', this.#network, file);
  }

  /** Podman 4.3 publishes every port, runs no probe of HTTP, and repeats init containers of a pod that always restarts. */
  #asPodmanPlays(rendered: z.output<typeof deployment>): unknown {
    const { template } = rendered.spec;
    this.#hooks = new Map(
      template.spec.containers.map(({ name, lifecycle }) => [name, lifecycle.preStop.exec.command]),
    );
    const containers = template.spec.containers.map(
      ({ ports: _p, startupProbe: _s, readinessProbe: _r, livenessProbe: _l, ...rest }) => rest,
    );
    const spec = { ...template.spec, containers, restartPolicy: 'OnFailure' };
    return { ...rendered, spec: { ...rendered.spec, template: { ...template, spec } } };
  }

  #application(server: string): string {
    const name = `${this.site}-${server}`;
    const paths = [`${name}-lab`, `${name}-package`];
    return stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: {
        containers: [
          {
            name: 'app',
            image: NODE_IMAGE,
            imagePullPolicy: 'IfNotPresent',
            command: ['node', '/app/lab/app-server-main.ts', this.site, server, '8080', '0.0.0.0'],
            volumeMounts: [
              { name: paths[0], mountPath: '/app/lab' },
              { name: paths[1], mountPath: '/app/package.json' },
            ],
          },
        ],
        volumes: [
          { name: paths[0], hostPath: { path: `${ROOT}lab` } },
          { name: paths[1], hostPath: { path: `${ROOT}package.json` } },
        ],
      },
    });
  }
}

function isKind(manifest: unknown, ...kinds: readonly string[]): boolean {
  return z.object({ kind: z.enum(kinds) }).safeParse(manifest).success;
}

export async function statusOf(url: string): Promise<number> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) }).catch(() => null);
  await answer?.text();
  return answer?.status ?? 0;
}
