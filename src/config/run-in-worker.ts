import { Worker } from 'node:worker_threads';

/** Ten times what a config of thousands of servers takes. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16 };

export interface WorkerTask {
  /** A built file that posts one message: a worker starts from JavaScript. */
  readonly worker: URL;
  readonly data: unknown;
  /** What it does, for messages: `reading the config`. */
  readonly what: string;
  readonly timeoutMs: number;
  /** Ends it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Does something in a thread of its own, so that this one goes on meanwhile, whatever it takes.
 * @returns the message that it posts
 * @throws Error for what takes too long or too much memory, or can't begin
 */
export async function runInWorker<Answer>(task: WorkerTask): Promise<Answer> {
  const { what, timeoutMs, signal } = task;
  const worker = start(task);
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const fail = (why: string, cause?: Error) => reject(new Error(`${what} ${why}: the old config stays`, { cause }));
      worker.once('message', resolve);
      worker.once('error', (error) => fail(`failed: ${error.message}`, error));
      worker.once('exit', (code) => fail(`ended with code ${code}`));
      timer = setTimeout(() => fail(`took longer than ${timeoutMs / 1_000} s`), timeoutMs);
      onAbort = () => fail('was aborted');
      signal?.addEventListener('abort', onAbort);
      if (signal?.aborted === true) onAbort();
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    await worker.terminate();
  }
}

function start({ worker, data, what }: WorkerTask): Worker {
  try {
    return new Worker(worker, { workerData: data, resourceLimits: RESOURCE_LIMITS, name: what });
  } catch (error) {
    const why =
      error instanceof Error && 'code' in error && error.code === 'ERR_ACCESS_DENIED'
        ? "Node's permission model lets no thread be started: add --allow-worker"
        : String(error);
    throw new Error(`${what} cannot begin: ${why}: the old config stays`, { cause: error });
  }
}
