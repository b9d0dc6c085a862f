import {
  Alias,
  Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Node,
  Pair,
  Scalar,
  type Schema,
  YAMLMap,
  YAMLSeq,
} from 'yaml';
import type { Json, JsonObject } from './json.ts';
import type { Commenter } from './print-comments.ts';

export interface Printing {
  readonly comments: Commenter;
  /** Before all. */
  readonly comment?: string;
  readonly commentOnAdmin?: string | null;
  /** Whether equal parts are written once. */
  readonly isShared: boolean;
  /** Whether those of each listener, cluster and virtual host are apart. */
  readonly isScoped: boolean;
}

/** A value as YAML, with what each part is for, and short collections on a line. */
export function printYaml(value: Json, options: Printing): string {
  const { comment = null, commentOnAdmin = null } = options;
  // Envoy reads a plain no, on or 0:10 as YAML 1.1 does; of the site's names some may look so.
  const document = new Document<Node>(undefined, { schema: 'yaml-1.1' });
  const toText = (contents: Node) => {
    document.contents = contents;
    return document.toString({ lineWidth: 0, flowCollectionPadding: true, directives: false });
  };
  const contents = createComposer({ ...options, schema: document.schema, toText })(value);
  const admin = isMap(contents) ? contents.get('admin', true) : undefined;
  if (commentOnAdmin !== null && isMap(admin)) admin.commentBefore = commentOnAdmin;
  writeShortOnesInline(contents);
  document.commentBefore = comment;
  return toText(contents);
}

/** Shorter than this a repetition is easier to read than a reference. */
const MIN_SHARED_LENGTH = 200;

/**
 * Of several applications each of these has references of its own: parsers take hundreds to one part, and nested ones more so,
 * for an attack.
 */
const SCOPES = ['listeners', 'clusters', 'resources', 'virtual_hosts'];

type Shared = YAMLSeq<Node> | YAMLMap<Scalar, Node>;

interface ComposerOptions extends Pick<Printing, 'comments' | 'isShared' | 'isScoped'> {
  readonly schema: Schema;
  readonly toText: (contents: Node) => string;
}

/**
 * Makes nodes of a value: what equals a part before it is a reference to that. The library could do so by itself, in a time
 * that grows with the square of the references, and with all nodes in memory at once: some hundred MB of a thousand applications.
 */
function createComposer({ comments, isShared, isScoped, schema, toText }: ComposerOptions): (value: Json) => Node {
  const shapeOf = createShapes();
  let anchors = 0;

  function compose(part: Json, parts: Map<number, Shared>): Node {
    if (typeof part !== 'object' || part === null) return new Scalar(part);
    if (!isShared) return isList(part) ? listOf(part, parts) : mapOf(part, parts);
    const shape = shapeOf(part);
    const known = parts.get(shape.id);
    if (known !== undefined) {
      known.anchor ??= `same${++anchors}`;
      return new Alias(known.anchor);
    }
    const made = isList(part) ? listOf(part, parts) : mapOf(part, parts);
    if (shape.length >= MIN_SHARED_LENGTH) parts.set(shape.id, made);
    return made;
  }

  function listOf(items: readonly Json[], parts: Map<number, Shared>): YAMLSeq<Node> {
    const list = new YAMLSeq<Node>(schema);
    list.items = items.map((item) => compose(item, parts));
    return list;
  }

  function mapOf(part: JsonObject, parts: Map<number, Shared>): YAMLMap<Scalar, Node> {
    const map = new YAMLMap<Scalar, Node>(schema);
    map.commentBefore = comments.ofPart(part);
    const members = Object.entries(part).flatMap(([key, value]) => {
      if (value === undefined) return [];
      const node = new Scalar(key);
      node.commentBefore = comments.ofKey(key, value);
      return [{ key, value, node }];
    });
    for (const { key, value, node } of members) {
      const ofEach = isScoped && SCOPES.includes(key) && isList(value);
      map.items.push(new Pair(node, ofEach ? scopesOf(value) : compose(value, parts)));
    }
    return map;
  }

  function scopesOf(items: readonly Json[]): YAMLSeq<Node> {
    const list = new YAMLSeq<Node>(schema);
    list.items = items.map((item) => {
      const node = compose(item, new Map());
      if (!isMap(node) || writeShortOnesInline(node) <= LINE_WIDTH) return node;
      const { commentBefore } = node;
      node.commentBefore = null;
      return new WrittenMap(toText(node), commentBefore);
    });
    return list;
  }

  return (value) => compose(value, new Map());
}

/** A map that is text already. */
class WrittenMap extends YAMLMap {
  readonly #text: string;

  constructor(text: string, commentBefore: string | null | undefined) {
    super();
    // Without the end of the last line.
    this.#text = text.slice(0, -1);
    this.commentBefore = commentBefore ?? null;
  }

  override toString(context?: { readonly indent: string }): string {
    return this.#text.replaceAll(/\n(?!\n)/g, `\n${context?.indent ?? ''}`);
  }
}

/** What is equal has one number. */
interface Shape {
  readonly id: number;
  /** Of its JSON. */
  readonly length: number;
}

/** Each part is looked at once, however deep it stands. */
function createShapes(): (part: Json) => Shape {
  const ids = new Map<string, number>();
  const shapes = new Map<Json, Shape>();

  function shapeOf(part: Json): Shape {
    const known = shapes.get(part);
    if (known !== undefined) return known;
    const shape = read(part);
    shapes.set(part, shape);
    return shape;
  }

  function read(part: Json): Shape {
    if (typeof part !== 'object' || part === null) {
      const text = JSON.stringify(part);
      return { id: idOf(text), length: text.length };
    }
    const isNamed = !isList(part);
    let text = isNamed ? '{' : '[';
    let length = 1;
    for (const [key, item] of Object.entries(part)) {
      if (item === undefined) continue;
      const shape = shapeOf(item);
      const name = isNamed ? shapeOf(key) : null;
      // By their numbers, for there are a million of them.
      text += name === null ? `${shape.id},` : `${name.id}:${shape.id},`;
      length += shape.length + 1 + (name === null ? 0 : name.length + 1);
    }
    return { id: idOf(text), length: Math.max(2, length) };
  }

  function idOf(text: string): number {
    const id = ids.get(text) ?? ids.size;
    ids.set(text, id);
    return id;
  }

  return shapeOf;
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

/** Without the indentation, which no reader minds. */
const LINE_WIDTH = 130;

/** Writes each collection that fits a line on one. @returns how wide it is there; infinite where it must not */
function writeShortOnesInline(node: unknown): number {
  if (isScalar(node)) return node.commentBefore ? Number.POSITIVE_INFINITY : String(node.value).length + 2;
  if (isAlias(node)) return node.source.length + 1;
  if (node instanceof WrittenMap || (!isMap(node) && !isSeq(node))) return Number.POSITIVE_INFINITY;
  let width = 4;
  for (const item of node.items) {
    if (isPair(item)) {
      const key = isScalar(item.key) ? String(item.key.value).length + 4 : Number.POSITIVE_INFINITY;
      const hasComment = isScalar(item.key) && Boolean(item.key.commentBefore);
      width += key + writeShortOnesInline(item.value) + (hasComment ? Number.POSITIVE_INFINITY : 0);
    } else {
      width += 2 + writeShortOnesInline(item);
    }
  }
  if (node.commentBefore) width = Number.POSITIVE_INFINITY;
  else if (node.anchor) width += node.anchor.length + 2;
  node.flow = width <= LINE_WIDTH;
  if (node.flow)
    for (const item of node.items) for (const part of isPair(item) ? [item.key, item.value] : [item]) quoteInFlow(part);
  return width;
}

/** There commas, colons and question marks mean something, not the same to every reader. */
function quoteInFlow(node: unknown): void {
  if (!isScalar(node) || typeof node.value !== 'string') return;
  if (!/^[\w./-]+$/.test(node.value)) node.type = Scalar.QUOTE_DOUBLE;
}
