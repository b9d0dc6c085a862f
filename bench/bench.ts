import type { Application } from './application.ts';
import type { Tools } from './tools.ts';

/** What all parts of one run share. */
export interface Bench {
  readonly tools: Tools;
  /** For the files of the run; removed at its end. */
  readonly directory: string;
  readonly application: Application;
  /** Workers of the proxy: Envoy's `--concurrency`, HAProxy's `nbthread`. */
  readonly workers: number;
  /** Each Envoy writes a line for each request, as it is printed to; otherwise none does. */
  readonly accessLog: boolean;
  /** Flags of V8 and Node for the sidecar. */
  readonly nodeArgs: readonly string[];
  readonly say: (line: string) => void;
}
