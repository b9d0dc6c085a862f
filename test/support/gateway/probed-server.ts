import { createServer, type Server } from 'node:http';
import { createAppServer } from '../../../lab/app-server.ts';

/** A server of the application that says at its health check that it is about to stop, as a pod does that is deleted. */
export class ProbedServer {
  readonly #server: Server;
  #isReady = true;

  private constructor(options: Parameters<typeof createAppServer>[0]) {
    const application = createAppServer(options);
    this.#server = createServer((request, response) => {
      if (request.url === '/healthz' && !this.#isReady) response.writeHead(503).end();
      else application.emit('request', request, response);
    });
  }

  static async start({
    host,
    ...options
  }: Parameters<typeof createAppServer>[0] & { readonly host: string }): Promise<ProbedServer> {
    const server = new ProbedServer(options);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject).listen(options.port, host, resolve);
    });
    return server;
  }

  /** Whether its health check passes. */
  get isReady(): boolean {
    return this.#isReady && this.#server.listening;
  }

  /** Its health check fails from now on; requests are still served. */
  failProbes(): void {
    this.#isReady = false;
  }

  /** Ends it at once, with what it is doing. */
  async kill(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}
