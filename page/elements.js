// Elements of the page. Every text goes in as text, never as HTML; what did not change is left alone, so that it can be
// read, selected and focused while the page is live.

/**
 * @param {string} tag
 * @param {string} [classes]
 * @param {string} [text]
 */
export function element(tag, classes = '', text = '') {
  const made = document.createElement(tag);
  if (classes !== '') made.className = classes;
  if (text !== '') made.textContent = text;
  return made;
}

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * @template {Element} Type
 * @param {string} id
 * @param {new () => Type} type
 * @returns {Type}
 */
export function byIdOf(id, type) {
  const found = byId(id);
  if (!(found instanceof type)) throw new Error(`#${id} is no ${type.name}`);
  return found;
}

const SVG = 'http://www.w3.org/2000/svg';

/**
 * A drawing that says nothing that is not said in words.
 * @param {number} width
 * @param {number} height
 */
export function createSvg(width, height) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('aria-hidden', 'true');
  return svg;
}

/** @param {string} classes */
export function createPath(classes) {
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('class', classes);
  return path;
}

/** @param {string} name */
export function column(name) {
  const cell = element('th', '', name);
  cell.setAttribute('scope', 'col');
  return cell;
}

/**
 * @param {Element} of
 * @param {string} text
 */
export function setText(of, text) {
  if (of.textContent !== text) of.textContent = text;
}

/**
 * @param {Element} of
 * @param {string} classes
 */
export function setClasses(of, classes) {
  if (of.className !== classes) of.className = classes;
}

/**
 * Makes these the children of an element. One that stays among its neighbours is not touched.
 * @param {Element} parent
 * @param {readonly Element[]} children
 */
export function arrange(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let place = parent.firstElementChild;
  for (const child of children) {
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}

/**
 * Items as children of an element; one whose key was there before keeps its element.
 * @template Item
 * @param {Element} parent
 * @param {(item: Item, index: number) => string} keyOf
 * @param {(item: Item, index: number) => Element} create
 * @returns {(items: readonly Item[]) => void} shows these
 */
export function createList(parent, keyOf, create) {
  /** @type {ReadonlyMap<string, Element>} */
  let shown = new Map();
  return (items) => {
    const before = shown;
    shown = new Map(
      items.map((item, index) => {
        const key = keyOf(item, index);
        return [key, before.get(key) ?? create(item, index)];
      }),
    );
    arrange(parent, [...shown.values()]);
  };
}
