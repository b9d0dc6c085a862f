import { dirname, isAbsolute, join } from 'node:path';

/** What the operator has of Envoy's config beside what is rendered; `envoy-config/overlay.ts` merges it. */
export interface Overlay {
  /** In a comparison of configs it is one value, as an address is. */
  readonly kind: 'overlay';
  /** As the config file has it and, once it is read, from where the command runs. */
  readonly file: string;
  /** For the lines of mistakes that show only where it is merged. */
  readonly text: string;
  readonly content: unknown;
}

/** One that is not read yet: it changes nothing. */
export function unreadOverlay(file: string): Overlay {
  return { kind: 'overlay', file, text: '', content: {} };
}

/** Where a file is whose path counts from the config file. */
export function besideConfigFile(file: string, configFile: string): string {
  return isAbsolute(file) ? file : join(dirname(configFile), file);
}
