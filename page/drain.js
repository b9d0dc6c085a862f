// Drain and undrain, each after a question.

import { byId, byIdOf, element, setText } from './elements.js';
import { requestsOf } from './words.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport} State */
/** @typedef {State['applications'][number]} Application */

/** The status of a drain that would leave clients without a site. */
const WITHOUT_SITE = 409;

const dialog = byIdOf('drain-dialog', HTMLDialogElement);
const reason = byIdOf('drain-reason', HTMLInputElement);
const evict = byIdOf('drain-evict', HTMLInputElement);
const time = byIdOf('drain-time', HTMLSelectElement);
const confirm = byIdOf('drain-confirm', HTMLButtonElement);
const force = byIdOf('drain-force', HTMLButtonElement);
const cancel = byIdOf('drain-cancel', HTMLButtonElement);

/** @type {Application | null} What the question is about. */
let asked = null;

for (const field of [reason, evict, time]) field.addEventListener('input', () => showFailure(null));
cancel.addEventListener('click', () => dialog.close());
force.addEventListener('click', () => void send({ isForced: true }));
byId('drain-form').addEventListener('submit', (event) => {
  event.preventDefault();
  void send({ isForced: false });
});

/**
 * @param {Element} parent
 * @returns {(state: State, application: Application, what: string) => void} shows the button, where there is to be one
 */
export function createDrainButton(parent) {
  const button = parent.appendChild(element('button'));
  button.setAttribute('type', 'button');
  button.setAttribute('aria-haspopup', 'dialog');
  let open = () => {};
  button.addEventListener('click', () => open());
  return (state, application, what) => {
    // What the config file drains ends there.
    button.hidden = !state.buttons || application.draining_by_config;
    setText(button, `${application.draining ? 'Undrain' : 'Drain'} ${what}…`);
    open = () => ask(application, what);
  };
}

/**
 * @param {Application} application
 * @param {string} what
 */
function ask(application, what) {
  asked = application;
  const { draining } = application;
  const verb = draining ? 'Undrain' : 'Drain';
  setText(byId('drain-title'), `${verb} ${what}?`);
  setText(
    byId('drain-effect'),
    draining
      ? 'Its status URI answers 200 again, so new clients come.'
      : `Its status URI answers 503, so new clients go to other sites. Its own sessions are still served here: ${requestsOf(application)} in the last minute.`,
  );
  byId('drain-options').hidden = draining;
  reason.value = '';
  time.value = '';
  evict.checked = false;
  setText(confirm, verb);
  showFailure(null);
  dialog.showModal();
  (draining ? confirm : reason).focus();
}

/** @param {{isForced: boolean}} how */
async function send({ isForced }) {
  if (asked === null) return;
  const { name, draining } = asked;
  const query = new URLSearchParams([['application', name]]);
  if (!draining) {
    if (time.value !== '') query.set('for', time.value);
    if (reason.value !== '') query.set('reason', reason.value);
    if (evict.checked) query.set('evict', '');
    if (isForced) query.set('force', '');
  }
  const about = asked;
  confirm.disabled = true;
  const answer = await fetch(`${draining ? 'undrain' : 'drain'}?${query}`, { method: 'POST' }).catch(() => null);
  // Another question is open meanwhile, or none.
  if (asked !== about || !dialog.open) return;
  if (answer?.ok === true) return dialog.close();
  const why = answer === null ? 'the sidecar does not answer' : (await answer.text()).trim();
  showFailure({ why, canForce: answer?.status === WITHOUT_SITE });
}

/**
 * To do it all the same is another button than the one that was just clicked, and not the one with the focus.
 * @param {{why: string, canForce: boolean} | null} failure
 */
function showFailure(failure) {
  const canForce = failure?.canForce === true;
  byId('drain-refused').hidden = failure === null;
  setText(byId('drain-why'), failure === null ? '' : `Refused: ${failure.why}.`);
  force.hidden = !canForce;
  confirm.disabled = canForce;
  if (canForce) cancel.focus();
}
