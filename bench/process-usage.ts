import { readdir, readFile } from 'node:fs/promises';

/** What Linux's /proc/PID/stat counts time in, on every architecture: USER_HZ. */
const MS_PER_TICK = 10;

/** What some processes and all their descendants have used since they began. */
export interface ProcessUsage {
  readonly cpuMs: number;
  readonly rssBytes: number;
}

interface ProcessStat {
  readonly parent: number;
  readonly cpuMs: number;
}

/** Sums up whole process trees. A process that has ended counts for what its parent knows of it. */
export async function readUsage(roots: readonly number[]): Promise<ProcessUsage> {
  const stats = await readAllStats();
  let cpuMs = 0;
  let rssBytes = 0;
  for (const [pid, stat] of stats) {
    if (!isBelow(pid, roots, stats)) continue;
    cpuMs += stat.cpuMs;
    rssBytes += await readRssBytes(pid);
  }
  return { cpuMs, rssBytes };
}

function isBelow(pid: number, roots: readonly number[], stats: ReadonlyMap<number, ProcessStat>): boolean {
  for (let at: number | undefined = pid; at !== undefined && at > 1; at = stats.get(at)?.parent) {
    if (roots.includes(at)) return true;
  }
  return false;
}

async function readAllStats(): Promise<Map<number, ProcessStat>> {
  const stats = new Map<number, ProcessStat>();
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
    if (text !== null) stats.set(pid, parseStat(text));
  }
  return stats;
}

/** Fields as in proc(5), counted from 1: 4 ppid, 14 utime, 15 stime, 16 cutime, 17 cstime. */
function parseStat(text: string): ProcessStat {
  // The second field, the program's name, may hold anything, but only it stands in parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const field = (number: number) => Number(fields[number - 3]);
  return { parent: field(4), cpuMs: (field(14) + field(15) + field(16) + field(17)) * MS_PER_TICK };
}

async function readRssBytes(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
}
