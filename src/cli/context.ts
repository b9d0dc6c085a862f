/** The world as a command sees it. */
export interface CliContext {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream;
  readonly env: NodeJS.ProcessEnv;
  /** Aborted when the program is to stop. */
  readonly signal: AbortSignal;
  /** Has an event `hangup` whenever the program is to read its config again. */
  readonly hangups: EventTarget;
}
