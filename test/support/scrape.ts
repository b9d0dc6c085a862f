import { get } from 'node:http';
import { text } from 'node:stream/consumers';
import { urlToHttpOptions } from 'node:url';
import { waitUntil } from '../../lab/wait-until.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';

const SERIES = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;

/** One scrape of `/metrics`. */
export class Scrape {
  /** By name and labels as they are written, such as `up{site="east"}`. */
  readonly series = new Map<string, number>();

  /** @throws Error where a line is neither a comment nor a series, or a series is there twice */
  constructor(text: string) {
    for (const line of text.split('\n')) {
      if (line === '' || line.startsWith('# ')) continue;
      const [, name, labels = '', value = ''] = SERIES.exec(line) ?? [];
      if (name === undefined) throw new Error(`no line of Prometheus's text format: ${line}`);
      const key = keyOf(name, labels);
      if (this.series.has(key)) throw new Error(`there twice: ${line}`);
      this.series.set(key, value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value));
    }
  }

  /**
   * The metrics as they are, or were up to a second ago.
   * @param ops the ops listener, such as `http://127.0.0.1:9003` or `unix:/run/ops.sock`
   */
  static async of(ops: string): Promise<Scrape> {
    return new Scrape(await textOf(ops));
  }

  /** The metrics with all that was counted before this call: of a text that is made after it. */
  static async fresh(ops: string): Promise<Scrape> {
    const before = await textOf(ops);
    let now = before;
    await waitUntil(
      async () => {
        now = await textOf(ops);
        return now !== before;
      },
      { what: 'new metrics' },
    );
    return new Scrape(now);
  }

  /** A series of this program. @throws Error where there is none */
  value(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const key = keyOf(
      `site_persistence_${name}`,
      Object.entries(labels)
        .map(([label, value]) => `${label}="${value}"`)
        .join(),
    );
    const value = this.series.get(key);
    if (value === undefined) throw new Error(`no series ${key}`);
    return value;
  }

  /** The decisions of an application other than of the status URI, as `decision owner`, which are not 0. */
  decisions(of = DEFAULT_APPLICATION): Record<string, number> {
    const found: Record<string, number> = {};
    for (const [key, value] of this.series) {
      const [, decision, owner, application] =
        /^site_persistence_decisions_total\{decision="(\w+)",owner="(\w+)",application="([\w-]+)"\}$/.exec(key) ?? [];
      if (application !== of || decision === 'status' || value === 0) continue;
      found[`${decision} ${owner}`] = value;
    }
    return found;
  }

  /** All decisions, those of the status URI, too. */
  get decisionCount(): number {
    return [...this.series].reduce((sum, [key, value]) => sum + (key.includes('_decisions_total{') ? value : 0), 0);
  }
}

function keyOf(name: string, labels: string): string {
  return labels === '' ? name : `${name}{${labels}}`;
}

async function textOf(ops: string): Promise<string> {
  const target = ops.startsWith('unix:') ? { socketPath: ops.slice('unix:'.length) } : urlToHttpOptions(new URL(ops));
  return await new Promise((resolve, reject) => {
    const request = get({ ...target, path: '/metrics', timeout: 5_000 }, (answer) => {
      void text(answer).then((body) => {
        if (answer.statusCode === 200) resolve(body);
        else reject(new Error(`/metrics answered ${answer.statusCode}`));
      }, reject);
    });
    request.on('timeout', () => request.destroy(new Error('/metrics did not answer in time')));
    request.on('error', reject);
  });
}
