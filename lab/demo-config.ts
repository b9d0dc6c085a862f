import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Document, isMap, isScalar, isSeq, parseDocument, type YAMLSeq } from 'yaml';
import type { Application } from './demo-sites.ts';
import { CLI } from './site-processes.ts';

const ORIGINALS = CLI.replace(/dist\/main\.js$/, 'envoy/demo/');
const NEWEST_RENDERED = '1.40';

/** A site's config file while the demo runs: a copy of the one in envoy/demo, with a directory that Envoy watches. */
export class DemoConfig {
  readonly file: string;

  private constructor(file: string) {
    this.file = file;
  }

  /** @param envoyVersion of the Envoy that is there, which may be an older one */
  static async create(site: string, envoyVersion: string, directory: string): Promise<DemoConfig> {
    const config = new DemoConfig(join(directory, `${site}.yaml`));
    const document = parseDocument(await readFile(`${ORIGINALS}${site}.yaml`, 'utf8'));
    document.setIn(['envoy', 'config_dir'], join(directory, `${site}-envoy`));
    if (minorOf(envoyVersion) < minorOf(NEWEST_RENDERED)) document.setIn(['envoy', 'version'], envoyVersion);
    await config.#write(document);
    return config;
  }

  async addServer(application: Application, address: string): Promise<void> {
    await this.#changeServers(application, (servers) => servers.add(address));
  }

  async removeServer(application: Application, address: string): Promise<void> {
    await this.#changeServers(application, (servers) => {
      const index = servers.items.findIndex((item) => isScalar(item) && item.value === address);
      if (index !== -1) servers.delete(index);
    });
  }

  async #changeServers(application: Application, change: (servers: YAMLSeq) => void): Promise<void> {
    // Read again each time: it is there to be edited by hand as well.
    const document = parseDocument(await readFile(this.file, 'utf8'));
    const applications = document.get('applications');
    const found = isSeq(applications)
      ? applications.items.filter((item) => isMap(item)).find((item) => item.get('name') === application)
      : undefined;
    const servers = found?.getIn(['local_pool', 'servers']);
    if (!isSeq(servers)) throw new Error(`${this.file} has no servers of ${application}`);
    change(servers);
    await this.#write(document);
  }

  async #write(document: Document): Promise<void> {
    await writeFile(this.file, document.toString({ flowCollectionPadding: false, lineWidth: 0 }));
  }
}

function minorOf(version: string): number {
  return Number(version.split('.')[1]);
}
