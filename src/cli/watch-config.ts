import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import { type FileWatch, watchFile } from '../listener/watch-file.ts';

export interface ConfigWatch {
  /** Watches what the config that was just read is made of beside its file, in place of what the one before was. */
  follow(config: Config): Promise<void>;
  close(): void;
}

/** A file that a config file names and that was read with it. */
interface NamedFile {
  readonly file: string;
  readonly text: string;
  /** What it is, for messages. */
  readonly what: string;
}

/** Watches a config file, and once it is read the overlay and the key files that it names. */
export async function watchConfig(file: string, onChange: () => void, logger: Logger): Promise<ConfigWatch> {
  const watchOne = (path: string, what: string) =>
    watchFile(path, {
      onChange,
      onPollingOnly: (why) => logger.warn(`${why}; ${what} is looked at every 2 s instead`),
    });
  const config = await watchOne(file, 'the config file');
  let isClosed = false;
  const watches = new Map<string, FileWatch>();

  async function followOne(named: NamedFile): Promise<void> {
    const watch = await watchOne(named.file, named.what);
    if (isClosed) return watch.close();
    watches.set(named.file, watch);
    if (!(await isAsRead(named))) onChange();
  }

  return {
    async follow(read) {
      const wanted = namedFiles(read);
      for (const [path, watch] of watches) {
        if (wanted.has(path)) continue;
        watch.close();
        watches.delete(path);
      }
      for (const named of wanted.values()) {
        if (!isClosed && !watches.has(named.file)) await followOne(named);
      }
    },
    close() {
      isClosed = true;
      config.close();
      for (const watch of watches.values()) watch.close();
    },
  };
}

/** By their paths: applications may share a key file. */
function namedFiles({ envoy: { overlay }, applications }: Config): ReadonlyMap<string, NamedFile> {
  const keyFiles = applications.flatMap(({ localPool }) => localPool.cookie.opaque?.keyFile ?? []);
  const files = [
    ...(overlay === null ? [] : [{ ...overlay, what: 'the overlay' }]),
    ...keyFiles.map((keys) => ({ ...keys, what: 'the key file' })),
  ];
  return new Map(files.map((named) => [named.file, named]));
}

/** It was read before it was watched. */
async function isAsRead({ file, text }: NamedFile): Promise<boolean> {
  return (await readFile(file, 'utf8').catch(() => null)) === text;
}
