import { delimiter, join } from 'node:path';
import { isExecutable } from '../../lab/binary-cache.ts';

/** Whether a program of this name is installed. */
export async function isOnPath(program: string): Promise<boolean> {
  const directories = (process.env.PATH ?? '').split(delimiter);
  const found = await Promise.all(directories.map((directory) => isExecutable(join(directory, program))));
  return found.includes(true);
}
