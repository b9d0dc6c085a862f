/** A command that could not do what it was asked for, though it was asked rightly; the message says why. */
export class CommandFailed extends Error {
  readonly code = 'COMMAND_FAILED';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CommandFailed';
  }
}
