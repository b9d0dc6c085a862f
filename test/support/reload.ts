import { readFile, rename, writeFile } from 'node:fs/promises';
import { parse, stringify } from 'yaml';
import { waitUntil } from '../../lab/wait-until.ts';
import type { ConfigFile, SiteLab } from './two-sites.ts';

/** Changes a site's config file at one stroke, as an editor does. */
export async function writeConfig({ configFile }: SiteLab, change: (file: ConfigFile) => void): Promise<void> {
  const file: unknown = parse(await readFile(configFile, 'utf8'));
  change(file as ConfigFile);
  await writeFile(`${configFile}.new`, stringify(file));
  await rename(`${configFile}.new`, configFile);
}

/** Makes every sidecar of the site reload and waits until each one's log says how it went. */
export async function reload({ sidecars }: SiteLab): Promise<void> {
  await Promise.all(
    sidecars.map(async (sidecar) => {
      const ends = () =>
        sidecar.lines.filter((line) => /config reloaded|config file rejected|could not be reloaded/.test(line)).length;
      const before = ends();
      sidecar.signal('SIGHUP');
      await waitUntil(() => ends() > before, {
        what: `the reload of ${sidecar.name}`,
        intervalMs: 5,
        timeoutMs: 60_000,
      });
    }),
  );
}
