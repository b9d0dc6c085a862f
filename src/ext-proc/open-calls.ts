/** How many neighbours of a taken place are looked at for a free one. */
const TRIES = 8;

/** What can be broken off to make room. */
export interface OpenCall {
  breakOff(): void;
}

/**
 * The calls that are open, so many at most: one more breaks off one of the oldest. So whoever opens calls and leaves them
 * can neither fill the memory nor keep others out. To come and go costs a call two writes into an array.
 */
export class OpenCalls {
  readonly #places: (OpenCall | null)[];
  readonly #onCrowded: () => void;
  #next = 0;

  /** @param onCrowded told of each call that is broken off */
  constructor(most: number, onCrowded: () => void) {
    this.#places = new Array<OpenCall | null>(most).fill(null);
    this.#onCrowded = onCrowded;
  }

  /** @returns the call's place, for {@link remove} */
  add(call: OpenCall): number {
    const places = this.#places;
    let place = this.#next;
    // Calls that wait long for their response are stepped over: there are few.
    for (let tries = 1; tries < TRIES && places[place] !== null; tries++) place = (place + 1) % places.length;
    const before = places[place];
    places[place] = call;
    this.#next = (place + 1) % places.length;
    if (before !== null && before !== undefined) {
      before.breakOff();
      this.#onCrowded();
    }
    return place;
  }

  remove(call: OpenCall, place: number): void {
    if (this.#places[place] === call) this.#places[place] = null;
  }
}
