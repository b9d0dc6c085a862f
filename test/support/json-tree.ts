/** An Envoy config as an object that tests reach into; what is not there is a mistake in the test. */
export interface Tree {
  [key: string]: unknown;
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object at a path of names, and of `name=value` for the item of a list. @throws where there is none */
export function tree(root: unknown, ...path: readonly (string | number)[]): Tree {
  const found = value(root, path);
  if (!isTree(found)) throw new Error(`no object at ${path.join('.')}`);
  return found;
}

/** The list at a path. @throws where there is none */
export function list(root: unknown, ...path: readonly (string | number)[]): unknown[] {
  const found = value(root, path);
  if (!Array.isArray(found)) throw new Error(`no list at ${path.join('.')}`);
  return found;
}

function value(root: unknown, path: readonly (string | number)[]): unknown {
  let current = root;
  for (const step of path) {
    if (Array.isArray(current)) {
      const items: unknown[] = current;
      current =
        typeof step === 'number' ? items[step] : items.find((item) => isTree(item) && `name=${item.name}` === step);
    } else current = isTree(current) ? current[step] : undefined;
  }
  return current;
}

/** Puts lines to paste where they go: members into an object, items before those of a list. */
export function paste(target: unknown, lines: unknown): void {
  if (Array.isArray(target) && Array.isArray(lines)) {
    target.unshift(...lines);
    return;
  }
  if (!isTree(target) || !isTree(lines)) throw new Error('these lines do not go there');
  for (const [key, item] of Object.entries(lines)) {
    const there = target[key];
    if (isTree(there) && isTree(item)) paste(there, item);
    else target[key] = item;
  }
}
