export interface LogLimitOptions {
  /** So many lines are let through… */
  readonly lines: number;
  /** …in each span of so many milliseconds, which begins with its first line. */
  readonly perMs: number;
  /** Called at the end of a span of which lines were left out. */
  readonly onLeftOut: (count: number) => void;
}

/**
 * Keeps lines of one kind from flooding the log. The function that it returns is asked before each line whether that
 * may be written; what may not is counted, and the count reported, so that nothing is left out in silence.
 */
export function createLogLimit({ lines, perMs, onLeftOut }: LogLimitOptions): () => boolean {
  let written = 0;
  let leftOut = 0;

  function endSpan(): void {
    const count = leftOut;
    written = 0;
    leftOut = 0;
    if (count > 0) onLeftOut(count);
  }

  return () => {
    if (written >= lines) {
      leftOut++;
      return false;
    }
    // A log that still has something to say is no reason for the process to stay.
    if (written === 0) setTimeout(endSpan, perMs).unref();
    written++;
    return true;
  };
}
