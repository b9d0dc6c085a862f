/** Wrong use of the command line; the message says what was wrong and what to write instead. */
export class UsageError extends Error {
  readonly code = 'WRONG_USE';

  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}
