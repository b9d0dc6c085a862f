import type { Config } from '../../config/config.ts';
import type { Json } from '../../envoy-config/json.ts';
import type { Pool } from '../pools.ts';
import type { Rule } from './rules.ts';

/** An object of the running Envoy's config, and the one that the renderer writes in its place. */
export interface Subject {
  /** Where lines of a fix go, as after "in": `cluster remote_pool`. */
  readonly place: string;
  /** Begins each sentence, where there are several such objects. */
  readonly label?: string;
  readonly actual: unknown;
  readonly rendered: unknown;
  readonly config: Config;
  /** The pool whose cluster it is. */
  readonly pool?: Pool;
  /** Whether an answer of the cluster that says that its host fails the health check is obeyed by this Envoy, and by other sites'. */
  readonly obeyed?: { readonly here: boolean; readonly elsewhere: boolean };
}

/** What happens where a field is not as it must be, under the mark that it gets. */
type Harm = { readonly wrong: string } | { readonly warn: string } | { readonly unchecked: string };

/**
 * A field that must be something, else there is something to say. What it must be is what the renderer writes at the same
 * path, so a new rendered field needs one of these and nothing else.
 */
export type Field = Harm & {
  /** Members with dots between; `thresholds[]` for the items of a list, of which one has to be right. */
  readonly path: string;
  /** Without it: as it is rendered. */
  readonly must?: Rule;
  /** What Envoy takes where the field is not set. */
  readonly unset?: Json;
  /** In place of what is rendered, where the renderer leaves it to Envoy's default or does more than is needed. */
  readonly want?: Json;
  /** For objects that this holds of. */
  readonly when?: (subject: Subject) => boolean;
  /** Reads the field from the object, where it is not simply at the path. */
  readonly read?: (object: unknown) => unknown;
  /** The path of what a fix prints; without it the field, or the whole list that it is in. */
  readonly fix?: string;
  /** In a list the operator's own items are right but for this: a fix prints it alone, for one of them. */
  readonly inItem?: true;
};

/** By the name of the check that looks at them. */
export type FieldTable = Readonly<Record<string, readonly Field[]>>;
