import { type ChildProcess, spawn } from 'node:child_process';

export interface ProcessOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly onLine?: (line: string) => void;
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Lines kept for the message when something goes wrong, or for a test to look at. */
const MAX_LINES_KEPT = 20_000;

/** Every process that is running, so that none outlives this one. */
const running = new Set<ManagedProcess>();

process.on('exit', () => {
  for (const child of running) child.signal('SIGKILL');
});

/** Ends every process, those that are only just starting as well, and waits until they have ended. */
export async function stopAllProcesses(): Promise<void> {
  await Promise.all([...running].map((child) => child.stop()));
}

/** A child process whose output is kept and can be waited for. */
export class ManagedProcess {
  readonly name: string;
  readonly lines: string[] = [];
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #listeners = new Set<(line: string) => void>();
  #hasEnded = false;

  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.#child = spawn(options.command, options.args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
    });
    running.add(this);
    if (options.onLine !== undefined) this.#listeners.add(options.onLine);
    this.#collect(this.#child.stdout);
    this.#collect(this.#child.stderr);
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        this.#hasEnded = true;
        running.delete(this);
        resolve({ code, signal });
      };
      this.#child.once('close', end);
      this.#child.once('error', (error) => {
        this.lines.push(error.message);
        end(null, null);
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Asks the process to end, or makes it, and waits until it has. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<ProcessEnd> {
    if (!this.#hasEnded) this.#child.kill(signal);
    const forced = setTimeout(() => this.#child.kill('SIGKILL'), 8_000);
    const end = await this.ended;
    clearTimeout(forced);
    return end;
  }

  /** Waits for a line of output, past or future. @throws Error with the output when there is none in time */
  async waitForLine(pattern: RegExp, timeoutMs = 60_000): Promise<string> {
    const known = this.lines.find((line) => pattern.test(line));
    return known ?? (await this.nextLine(pattern, timeoutMs));
  }

  /** Waits for a line that is yet to come. @throws Error with the output when there is none in time */
  async nextLine(pattern: RegExp, timeoutMs = 60_000): Promise<string> {
    return await new Promise((resolve, reject) => {
      const finish = (done: () => void) => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
        done();
      };
      const listener = (line: string) => {
        if (pattern.test(line)) finish(() => resolve(line));
      };
      const timer = setTimeout(
        () => finish(() => reject(this.failure(`did not print ${pattern} within ${timeoutMs} ms`))),
        timeoutMs,
      );
      this.#listeners.add(listener);
      void this.ended.then(() => finish(() => reject(this.failure(`ended before it printed ${pattern}`))));
    });
  }

  /** An error that shows the process's last output. */
  failure(what: string): Error {
    return new Error(`${this.name} ${what}. Its last output:\n${this.lines.slice(-30).join('\n')}`);
  }

  #collect(stream: NodeJS.ReadableStream | null): void {
    let rest = '';
    stream?.setEncoding('utf8');
    stream?.on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        this.lines.push(line);
        if (this.lines.length > MAX_LINES_KEPT) this.lines.splice(0, MAX_LINES_KEPT / 2);
        for (const listener of [...this.#listeners]) listener(line);
      }
    });
  }
}
