// Decisions by kind, a row each.

import { createCountsTable } from './counts-table.js';
import { createKey } from './graph.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport['decisions']} Decisions */
/** @typedef {keyof Decisions} Kind */

/** @type {readonly (readonly [kind: Kind, meaning: string])[]} */
const MEANINGS = [
  ['local', 'served at this site'],
  ['forward', 'sent to the site that owns the session'],
  ['failover', 'sent to another site: the local pool is down'],
  ['adopt', "another site's session, taken over here"],
  ['refuse', 'not served: 503'],
  ['unknown', 'no opinion: health is unknown'],
  ['status', 'the status URI, answered here'],
];
export const KINDS = MEANINGS.map(([kind]) => kind);

/**
 * @param {Element} parent
 * @returns {(decisions: Decisions) => void} shows these
 */
export function createDecisions(parent) {
  const rows = MEANINGS.map(([kind, meaning]) => ({ kind, meaning, key: createKey(kind) }));
  return createCountsTable(parent, { caption: 'Decisions by kind', heading: 'Decision', rows });
}
