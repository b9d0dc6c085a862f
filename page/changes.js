// The last changes, the newest first.

import { createList, element } from './elements.js';
import { linkTo } from './links.js';
import { dateAndTime } from './words.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport['changes'][number]} Change */

/**
 * @param {Element} parent
 * @param {{namesApplications: () => boolean}} options whether each says the application that it is about
 * @returns {(changes: readonly Change[]) => void} shows these
 */
export function createChanges(parent, { namesApplications }) {
  return createList(
    parent,
    // Times of another day have a date.
    (change) => `${namesApplications()} ${new Date().toDateString()} ${keyOf(change)}`,
    (change) => createChange(change, namesApplications()),
  );
}

/** @param {Change} change */
export function keyOf({ time, application, message }) {
  return `${time} ${application} ${message}`;
}

/**
 * @param {Change} change
 * @param {boolean} namesApplication
 */
function createChange({ time, level, application, message }, namesApplication) {
  const item = element('li');
  const when = element('time', '', dateAndTime(time));
  when.setAttribute('datetime', time);
  when.title = time;
  item.append(when);
  if (namesApplication && application !== null) item.append(linkTo(application));
  const mark = { info: '', warn: '▲ ', error: '✖ ' }[level];
  item.append(element('span', { info: '', warn: 'warn', error: 'bad' }[level], `${mark}${message}`));
  return item;
}
