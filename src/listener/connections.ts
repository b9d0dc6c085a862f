import type { Socket } from 'node:net';

/**
 * The connections of a listener, so many at most: one more ends another. That is one over which no decision was ever asked
 * for, as long as there is any, and of several the one that has said least. So a peer that opens connections and leaves them,
 * or keeps them busy with other things than Envoy's, cannot keep an Envoy out.
 */
export class Connections {
  readonly #open = new Set<Socket>();
  readonly #preferred = new Set<Socket>();
  readonly #most: number;
  readonly #onCrowded: () => void;

  /** @param onCrowded told of each connection that is ended for another */
  constructor(most: number, onCrowded: () => void) {
    this.#most = most;
    this.#onCrowded = onCrowded;
  }

  add(connection: Socket): void {
    if (this.#open.size >= this.#most) this.#endOne();
    this.#open.add(connection);
    connection.once('close', () => {
      this.#open.delete(connection);
      this.#preferred.delete(connection);
    });
  }

  /** A decision was asked for over this connection. */
  preferToKeep(connection: Socket): void {
    // With TLS this is what came out of the handshake, and no connection of the listener's own.
    if (this.#open.has(connection)) this.#preferred.add(connection);
  }

  endAll(): void {
    for (const connection of this.#open) connection.destroy();
  }

  #endOne(): void {
    const isAnyOther = this.#preferred.size < this.#open.size;
    let quietest: Socket | null = null;
    for (const connection of this.#open) {
      if (isAnyOther && this.#preferred.has(connection)) continue;
      if (quietest === null || connection.bytesRead < quietest.bytesRead) quietest = connection;
    }
    if (quietest === null) return;
    this.#open.delete(quietest);
    this.#preferred.delete(quietest);
    quietest.destroy();
    this.#onCrowded();
  }
}
