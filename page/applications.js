// The applications of a site, a line each, which opens: those that are not well on top.

import { createChanges } from './changes.js';
import { createDecisions } from './decisions.js';
import { createDrainButton } from './drain.js';
import { arrange, byId, byIdOf, element, setClasses, setText } from './elements.js';
import { hashOf, linkedApplication } from './links.js';
import { createPools } from './pools.js';
import { createSessions } from './sessions.js';
import { createTimeline } from './timeline.js';
import { describeDrain, describeFastPath, describeSeconds, LEVELS, WORST_FIRST } from './words.js';

/** @typedef {import('../src/ops/state.ts').SiteStateReport} State */
/** @typedef {State['applications'][number]} Application */
/** @typedef {State['pools'][number]} Pool */

/**
 * @typedef Seen what is known of an application
 * @property {Application} application
 * @property {readonly Pool[]} pools
 * @property {State} state
 * @property {import('./timeline.js').Window} window of the pools' history
 */

/** Of more applications those that are well are folded. */
const MAX_UNFOLDED = 20;

/** @param {(text: string) => void} say for a screen reader */
export function createApplications(say) {
  const [section, top, well] = [byId('applications'), byId('applications-top'), byId('applications-well')];
  const [unfold, found, search] = [byId('unfold'), byId('found'), byIdOf('search', HTMLInputElement)];
  /** @type {Map<string, Line>} */
  let lines = new Map();
  let isUnfolded = false;

  search.addEventListener('input', () => place());
  search.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || search.value === '') return;
    event.preventDefault();
    search.value = '';
    place();
  });
  unfold.addEventListener('click', () => {
    isUnfolded = !isUnfolded;
    place();
  });
  addEventListener('hashchange', openLinked);

  function place() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...lines.values()].toSorted((a, b) => a.compare(b));
    const matching = all.filter((line) => line.matches(words));
    const foldable = all.filter((line) => !line.isOnTop);
    const canFold = words.length === 0 && lines.size > MAX_UNFOLDED && foldable.length > 0;
    keepFocus(() => {
      arrange(top, itemsOf(matching.filter((line) => line.isOnTop)));
      arrange(well, itemsOf(matching.filter((line) => !line.isOnTop)));
    });
    top.hidden = top.childElementCount === 0;
    well.hidden = well.childElementCount === 0 || (canFold && !isUnfolded);
    unfold.hidden = !canFold;
    unfold.setAttribute('aria-expanded', String(isUnfolded));
    setText(unfold, foldable.length === lines.size ? `All ${lines.size} are well` : `${foldable.length} are well`);
    setText(found, words.length === 0 ? '' : `${matching.length} of ${lines.size} applications`);
  }

  function openLinked() {
    const name = linkedApplication();
    if (name === null || section.hidden) return;
    const line = lines.get(name);
    if (line === undefined) return say(`There is no application ${name}.`);
    search.value = '';
    line.open();
    place();
    line.focus();
  }

  /**
   * @param {State} state
   * @param {Seen['window']} window
   */
  return function show(state, window) {
    const isFirst = lines.size === 0;
    section.hidden = state.applications.length < 2;
    if (section.hidden) return;
    const pools = Map.groupBy(state.pools, (pool) => pool.application);
    lines = new Map(
      state.applications.map((application) => {
        const seen = { application, pools: pools.get(application.name) ?? [], state, window };
        const line = lines.get(application.name) ?? createLine(application.name);
        line.show(seen);
        return [application.name, line];
      }),
    );
    place();
    if (isFirst) openLinked();
  };
}

/** @typedef {ReturnType<typeof createLine>} Line */

/** @param {string} name */
function createLine(name) {
  const item = element('li');
  const details = document.createElement('details');
  const summary = details.appendChild(element('summary'));
  const level = summary.appendChild(element('span'));
  const verdict = element('span', 'verdict');
  summary.append(element('span', 'name', name), ' ', verdict);
  level.after(' ');
  item.append(details);
  /** @type {Seen | null} */
  let seen = null;
  /** @type {((seen: Seen) => void) | null} Null while it is closed. */
  let showInside = null;
  // Opened by a link, or while it was not well: it stays where it is read.
  let isKept = false;

  details.addEventListener('toggle', () => {
    if (details.open) {
      openInside();
      history.replaceState(null, '', hashOf(name));
      return;
    }
    showInside = null;
    details.lastElementChild?.remove();
    if (linkedApplication() === name) history.replaceState(null, '', location.pathname + location.search);
  });

  function openInside() {
    if (showInside !== null || seen === null) return;
    const inside = details.appendChild(element('div', 'inside'));
    showInside = createInside(inside);
    showInside(seen);
  }

  function isWell() {
    return seen === null || seen.application.verdict_level === 'ok';
  }

  return {
    item,
    get isOnTop() {
      return isKept || !isWell();
    },
    /** @param {Seen} next */
    show(next) {
      const isRead = details.open || item.contains(document.activeElement);
      isKept = isRead && (isKept || !isWell());
      seen = next;
      const { sign, word, tone } = LEVELS[next.application.verdict_level];
      setClasses(level, `state ${tone}`);
      setText(level, `${sign} ${word}`);
      setText(verdict, next.application.verdict);
      showInside?.(next);
    },
    open() {
      isKept = true;
      details.open = true;
      openInside();
    },
    focus() {
      summary.focus();
      item.scrollIntoView({ block: 'start' });
    },
    /** @param {readonly string[]} words in lower case */
    matches(words) {
      if (words.length === 0 || seen === null) return true;
      const sites = seen.pools.map((pool) => pool.site);
      const text = [name, ...seen.application.hosts, ...sites].join('\n').toLowerCase();
      return words.every((word) => text.includes(word));
    },
    /** @param {{rank: number, name: string}} other */
    compare(other) {
      return this.rank - other.rank || name.localeCompare(other.name, undefined, { numeric: true });
    },
    name,
    get rank() {
      return WORST_FIRST.indexOf(seen?.application.verdict_level ?? 'ok');
    },
  };
}

/**
 * What an open application shows.
 * @param {Element} parent
 * @returns {(seen: Seen) => void}
 */
function createInside(parent) {
  const hosts = parent.appendChild(element('p', 'note'));
  const drain = parent.appendChild(element('p', 'banner warn'));
  const showDrainButton = createDrainButton(parent.appendChild(element('p')));
  const showPools = createPools(parent.appendChild(element('div', 'cards')));
  const time = parent.appendChild(element('h3'));
  const showTimeline = createTimeline(parent);
  parent.append(element('h3', '', 'Decisions a second'));
  const showDecisions = createDecisions(parent.appendChild(element('div', 'scroll')));
  const fastPath = parent.appendChild(element('p', 'note'));
  parent.append(element('h3', '', 'Sessions'));
  const showSessions = createSessions(parent.appendChild(element('div', 'scroll')));
  parent.append(element('h3', '', 'Last changes'));
  const none = parent.appendChild(element('p', 'note', 'none yet'));
  const list = parent.appendChild(element('ol', 'changes'));
  const showChanges = createChanges(list, { namesApplications: () => false });
  return ({ application, pools, state, window }) => {
    setText(hosts, `Hosts: ${application.hosts.join(', ')}`);
    drain.hidden = !application.draining;
    setText(drain, describeDrain(application));
    showDrainButton(state, application, application.name);
    showPools(pools, state.health_known);
    setText(time, `Pools over the last ${describeSeconds(window.seconds)}`);
    showTimeline(pools, window);
    showDecisions(application.decisions);
    showSessions(application.sessions);
    fastPath.hidden = application.fast_path === 'unused';
    setText(fastPath, describeFastPath(application.fast_path));
    const changes = state.changes.filter((change) => change.application === application.name);
    none.hidden = changes.length > 0;
    showChanges(changes);
  };
}

/** @param {readonly Line[]} lines */
function itemsOf(lines) {
  return lines.map(({ item }) => item);
}

/**
 * What is moved loses the focus, and the reader their place.
 * @param {() => void} move
 */
function keepFocus(move) {
  const focused = document.activeElement;
  move();
  if (focused !== document.activeElement && focused instanceof HTMLElement) focused.focus({ preventScroll: true });
}
