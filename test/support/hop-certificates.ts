import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HOST_NAME, type IssuedFiles, replaceCertificate, replaceFile, TestCa } from './certificates.ts';
import { freePorts } from './free-ports.ts';
import type { ConfigFile } from './two-sites.ts';

type Site = 'east' | 'west';

/** What two sites need to forward to each other over TLS, each with a certificate, to a listener that takes nobody else. */
export class HopCertificates {
  /** Signs what the sites have at first. */
  readonly ca: TestCa;
  /** The CAs whose certificates both sites take. */
  readonly caFile: string;
  readonly ports: Readonly<Record<Site, number>>;
  readonly #directory: string;

  private constructor(directory: string, ca: TestCa, ports: Readonly<Record<Site, number>>) {
    this.#directory = directory;
    this.ca = ca;
    this.ports = ports;
    this.caFile = join(directory, 'live', 'sites-ca.pem');
  }

  static async create(directory: string): Promise<HopCertificates> {
    const [east = 0, west = 0] = await freePorts(2);
    const made = new HopCertificates(directory, await TestCa.create(directory), { east, west });
    await mkdir(join(directory, 'live'));
    await replaceFile(made.caFile, await readFile(made.ca.certFile));
    for (const site of ['east', 'west'] as const) await made.renew(site);
    return made;
  }

  /** Where a site's certificate and key are. */
  filesOf(site: Site): IssuedFiles {
    const file = (end: string) => join(this.#directory, 'live', `${site}.${end}`);
    return { certFile: file('pem'), keyFile: file('key') };
  }

  /** Gives a site another certificate. @param name that it bears */
  async renew(site: Site, ca = this.ca, name: string = site): Promise<void> {
    await replaceCertificate(await ca.issue(name), this.filesOf(site));
  }

  /** Makes a site's config one that uses them. */
  configure(file: ConfigFile, site: Site): void {
    const { certFile, keyFile } = this.filesOf(site);
    const own = { cert_file: certFile, key_file: keyFile };
    Object.assign(file.envoy, {
      hop_listen: `127.0.0.1:${this.ports[site]}`,
      hop_listen_tls: { ...own, client_ca_file: this.caFile },
      // What Envoy follows has them in it.
      ...(file.envoy.config_dir === undefined ? { secrets_dir: join(this.#directory, `${site}-secrets`) } : {}),
    });
    Object.assign(file.remote_pools[0] ?? {}, {
      servers: [`127.0.0.1:${this.ports[site === 'east' ? 'west' : 'east']}`],
      tls: { sni: HOST_NAME, ca_file: this.caFile, ...own },
    });
  }
}
