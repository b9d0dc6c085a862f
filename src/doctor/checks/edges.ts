import type { ApplicationFacts, Edge, SharedFacts } from '../facts.ts';
import { type Said, unchecked, type Verdict } from '../finding.ts';

/** Why nothing can be said of an application's virtual hosts, where what is its own stands there alone; null where it can. */
export function noHosts(edge: Edge, { surveys, isOneForAll }: ApplicationFacts): Verdict | null {
  if (isOneForAll) return null;
  const survey = surveys.get(edge);
  if (survey === undefined) return unchecked('the routes cannot be read');
  return survey.hosts.length === 0 ? unchecked('no virtual host leads to the pools') : null;
}

/** Runs a check on each edge, and says the listener where there are several; what is said of all is said once. */
export function eachEdge<F extends SharedFacts>(facts: F, check: (edge: Edge, facts: F) => Said): Verdict[] {
  if (facts.edges.length === 0) return [unchecked('no filter that asks the sidecars was found')];
  const verdicts = new Map<string, { verdict: Verdict; edges: Set<Edge> }>();
  for (const edge of facts.edges) {
    for (const verdict of [check(edge, facts)].flat()) {
      const key = JSON.stringify(verdict);
      const known = verdicts.get(key);
      if (known === undefined) verdicts.set(key, { verdict, edges: new Set([edge]) });
      else known.edges.add(edge);
    }
  }
  return [...verdicts.values()].map(({ verdict, edges }) =>
    edges.size === facts.edges.length
      ? verdict
      : { ...verdict, text: `${[...edges].map(({ label }) => label).join(' and ')}: ${verdict.text}` },
  );
}
