import { constants, type Http2Session, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';

const CHECK_PATH = '/grpc.health.v1.Health/Check';

/** The user agent of Envoy's health checker, in every version. */
const ENVOY_HEALTH_CHECKER = 'Envoy/HC';

/** Longer than the interval of the rendered check (0.5 s). A stop does not wait longer for an Envoy that has fallen silent. */
const MAX_WAIT_MS = 1_000;

/**
 * What Envoy's health checks have been told. Envoy sends no request to a sidecar that it has not seen SERVING, and goes on
 * sending them to one that it has not seen NOT_SERVING: a sidecar is ready after the first, and stops after the second.
 */
export class HealthChecks {
  readonly #checkers = new Set<Http2Session>();
  /** Those that have not been told of the stop; null before it. */
  #untold: Set<Http2Session> | null = null;
  #onAllTold: () => void = () => {};
  #wasAsked = false;

  /** Whether an Envoy has asked how this sidecar is, and has its answer. */
  get wasAsked(): boolean {
    return this.#wasAsked;
  }

  /** To be called with each stream that is no decision's, before it is answered. */
  observe(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const { session } = stream;
    if (session === undefined || headers[':path'] !== CHECK_PATH) return;
    if (headers['user-agent']?.startsWith(ENVOY_HEALTH_CHECKER) !== true) return;
    this.#remember(session);
    // Of a check that came before the stop the answer may be the old one.
    const tellsOfStop = this.#untold !== null;
    stream.once('close', () => {
      if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) return;
      this.#wasAsked = true;
      if (tellsOfStop) this.#told(session);
    });
  }

  /** Returns when each Envoy that asks has been told NOT_SERVING, which is what it must be answered from now on. */
  async stopped(): Promise<void> {
    this.#untold = new Set(this.#checkers);
    if (this.#untold.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, MAX_WAIT_MS);
      this.#onAllTold = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #remember(session: Http2Session): void {
    if (this.#checkers.has(session)) return;
    this.#checkers.add(session);
    session.once('close', () => {
      this.#checkers.delete(session);
      this.#told(session);
    });
  }

  #told(session: Http2Session): void {
    this.#untold?.delete(session);
    if (this.#untold?.size === 0) this.#onAllTold();
  }
}
