import type { Socket } from 'node:net';

/**
 * The connections of a listener, so many at most: one more ends the one that has said least. So whoever opens
 * connections and leaves them cannot keep an Envoy out, whose own have much to say.
 */
export class Connections {
  readonly #open = new Set<Socket>();
  readonly #most: number;
  readonly #onCrowded: () => void;

  /** @param onCrowded told of each connection that is ended for another */
  constructor(most: number, onCrowded: () => void) {
    this.#most = most;
    this.#onCrowded = onCrowded;
  }

  add(connection: Socket): void {
    if (this.#open.size >= this.#most) this.#endQuietest();
    this.#open.add(connection);
    connection.once('close', () => this.#open.delete(connection));
  }

  endAll(): void {
    for (const connection of this.#open) connection.destroy();
  }

  #endQuietest(): void {
    let quietest: Socket | null = null;
    for (const connection of this.#open) {
      if (quietest === null || connection.bytesRead < quietest.bytesRead) quietest = connection;
    }
    if (quietest === null) return;
    this.#open.delete(quietest);
    quietest.destroy();
    this.#onCrowded();
  }
}
