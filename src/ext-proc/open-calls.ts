/** How many neighbours of a taken place are looked at for a free one. */
const TRIES = 8;

/** What can be reset to make room. */
export interface OpenCall {
  reset(): void;
}

/**
 * The calls that are open, so many at most: one more resets one of the oldest. So a peer that opens calls and leaves them
 * can neither fill the memory nor keep others out. To come and go costs a call two writes into an array.
 */
export class OpenCalls<Call extends OpenCall = OpenCall> {
  readonly #places: (Call | null)[];
  readonly #onCrowded: () => void;
  #next = 0;

  /** @param onCrowded told of each call that is reset */
  constructor(most: number, onCrowded: () => void) {
    this.#places = new Array<Call | null>(most).fill(null);
    this.#onCrowded = onCrowded;
  }

  /** @returns the call's place, for {@link remove} */
  add(call: Call): number {
    const places = this.#places;
    let place = this.#next;
    // Calls that wait long for their response are stepped over: there are few.
    for (let tries = 1; tries < TRIES && places[place] !== null; tries++) place = (place + 1) % places.length;
    const before = places[place];
    places[place] = call;
    this.#next = (place + 1) % places.length;
    if (before !== null && before !== undefined) {
      before.reset();
      this.#onCrowded();
    }
    return place;
  }

  remove(call: Call, place: number): void {
    if (this.#places[place] === call) this.#places[place] = null;
  }

  /** The call of which this is most; null where it is 0 of each. Looks at every place. */
  max(sizeOf: (call: Call) => number): Call | null {
    let most: Call | null = null;
    let value = 0;
    for (const call of this.#places) {
      if (call === null) continue;
      const own = sizeOf(call);
      if (own > value) [most, value] = [call, own];
    }
    return most;
  }
}
