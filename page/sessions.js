// What becomes of sessions, a row each.

import { createCountsTable } from './counts-table.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport['applications'][number]['sessions']} Sessions */

/** @type {readonly {kind: keyof Sessions, name: string, meaning: string}[]} */
const ROWS = [
  { kind: 'known', name: 'known', meaning: "this site's own, served here" },
  { kind: 'new', name: 'new', meaning: "without a site's cookie: they begin" },
  { kind: 'server_gone', name: 'server gone', meaning: 'known, but got another server here: theirs is gone or down' },
  { kind: 'moved', name: 'moved', meaning: "this site's own, sent to another site: the pool here is down, or evicts" },
  { kind: 'adopted', name: 'adopted', meaning: "another site's, taken over here" },
  { kind: 'forwarded', name: 'forwarded', meaning: "another site's, sent there" },
  { kind: 'both_cookies', name: 'both cookies', meaning: 'with the cookies of several sites' },
];

/**
 * @param {Element} parent
 * @returns {(sessions: Sessions) => void} shows these
 */
export function createSessions(parent) {
  const caption = 'Requests by what became of their session';
  return createCountsTable(parent, { caption, heading: 'Requests of sessions', rows: ROWS });
}
