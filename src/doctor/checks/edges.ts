import type { Edge, Facts } from '../facts.ts';
import { unchecked, type Verdict } from '../finding.ts';

/** Runs a check on each edge, and says the listener where there are several; what is said of all is said once. */
export function eachEdge(facts: Facts, check: (edge: Edge, facts: Facts) => readonly Verdict[]): Verdict[] {
  if (facts.edges.length === 0) return [unchecked('no filter that asks the sidecars was found')];
  const verdicts = new Map<string, { verdict: Verdict; edges: Set<Edge> }>();
  for (const edge of facts.edges) {
    for (const verdict of check(edge, facts)) {
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
