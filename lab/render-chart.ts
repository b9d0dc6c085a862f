import { writeFile } from 'node:fs/promises';
import { chartFiles } from './chart-files.ts';

const root = process.cwd();
for (const [path, text] of await chartFiles(root)) await writeFile(`${root}/${path}`, text);
