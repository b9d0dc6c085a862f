import { stringify } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import type { Finding } from '../../src/doctor/finding.ts';
import { renderBootstrap } from '../../src/envoy-config/bootstrap.ts';
import { paste, type Tree, tree } from './json-tree.ts';

/** Of the site that doctor examines: of its Envoy, its servers and its sidecars, and one where nobody listens. */
export interface Ports {
  readonly edge: number;
  readonly second: number;
  readonly admin: number;
  readonly nobody: number;
  readonly app1: number;
  readonly app2: number;
  readonly west: number;
  readonly sidecar1: number;
  readonly sidecar2: number;
  readonly ops: number;
}

/** What is changed before Envoy starts: its bootstrap, and what the config file says. */
export interface Changes {
  readonly bootstrap?: (bootstrap: Tree, ports: Ports) => void;
  /** Pasted over the config file that doctor reads, and that the bootstrap is not rendered from. */
  readonly config?: Tree;
  /** Pasted over the config file from which the bootstrap is rendered. */
  readonly rendered?: Tree;
}

export interface Examined {
  readonly code: number;
  readonly findings: readonly Finding[];
}

/** The config file of that site, and what is made of it. */
export class DoctorFile {
  readonly ports: Ports;
  readonly #file: Tree;

  constructor(release: string, ports: Ports) {
    this.ports = ports;
    this.#file = {
      site: 'east',
      listen: `127.0.0.1:${ports.sidecar1}`,
      ops_listen: `127.0.0.1:${ports.ops}`,
      local_pool: {
        cluster: 'local_pool',
        // Before 1.39 a ttl is warned of.
        cookie: { name: 'KVAAVROI', path: '/', same_site: 'Lax', ...(release.startsWith('1.40') ? { ttl: '1h' } : {}) },
        servers: [`127.0.0.1:${ports.app1}`, `127.0.0.1:${ports.app2}`],
        health_check: { path: '/healthz', interval: '1s' },
      },
      remote_pools: [
        {
          site: 'west',
          cluster: 'remote_pool',
          cookie: { name: 'DDVHSLLQ', path: '/' },
          servers: [`127.0.0.1:${ports.west}`],
        },
      ],
      envoy: {
        admin: `http://127.0.0.1:${ports.admin}`,
        listen: `127.0.0.1:${ports.edge}`,
        sidecars: [`127.0.0.1:${ports.sidecar1}`, `127.0.0.1:${ports.sidecar2}`],
        version: release.split('.').slice(0, 2).join('.'),
      },
    };
  }

  text(changes: Tree = {}): string {
    const file = structuredClone(this.#file);
    paste(file, changes);
    return stringify(file);
  }

  /** The bootstrap that is right, as the commands would print it. */
  render(changes: Tree = {}): Tree {
    const config = parseConfig(this.text(changes), 'site.yaml', 'rendering');
    // A copy in which nothing is there twice: what is changed in one place stays as it was in others.
    const copy: unknown = JSON.parse(JSON.stringify(renderBootstrap(config)));
    return tree(copy);
  }

  /** The same with what is changed in it. */
  bootstrap({ bootstrap: change, rendered = {} }: Changes): Tree {
    const bootstrap = this.render(rendered);
    change?.(bootstrap, this.ports);
    return bootstrap;
  }

  /** What doctor reads. */
  examinedText({ config, rendered = {} }: Changes): string {
    return this.text(config ?? rendered);
  }
}
