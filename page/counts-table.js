// A table of what is counted: a row for each kind, with its meaning.

import { column, element, setText } from './elements.js';

/** @typedef {{total: number, per_second: number}} Count */

/**
 * @template {string} Kind
 * @typedef Row
 * @property {Kind} kind
 * @property {string} meaning in one sentence
 * @property {string} [name] where it is not the kind
 * @property {Element} [key] how a graph draws it
 */

/**
 * @template {string} Kind
 * @param {Element} parent
 * @param {{caption: string, heading: string, rows: readonly Row<Kind>[]}} options
 * @returns {(counts: Readonly<Record<Kind, Count | null>>) => void} shows these; null: not known
 */
export function createCountsTable(parent, { caption, heading, rows }) {
  const table = parent.appendChild(element('table'));
  table.append(element('caption', 'hidden', caption));
  const head = table.appendChild(element('thead')).appendChild(element('tr'));
  head.append(...[heading, 'a second', 'in all'].map(column));
  for (const cell of [...head.children].slice(1)) cell.className = 'number';
  const body = table.appendChild(element('tbody'));
  const shown = rows.map(({ kind, meaning, name = kind, key }) => {
    const row = body.appendChild(element('tr'));
    const title = row.appendChild(element('th'));
    title.setAttribute('scope', 'row');
    title.append(...(key === undefined ? [] : [key]), name, ' ', element('span', 'meaning', meaning));
    const perSecond = row.appendChild(element('td', 'number'));
    const total = row.appendChild(element('td', 'number'));
    return { kind, perSecond, total };
  });
  return (counts) => {
    for (const { kind, perSecond, total } of shown) {
      setText(perSecond, counts[kind]?.per_second.toLocaleString() ?? '?');
      setText(total, counts[kind]?.total.toLocaleString() ?? '?');
    }
  };
}
