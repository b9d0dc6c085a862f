import type { ApplicationFacts, Facts } from '../facts.ts';
import type { Said, Verdict } from '../finding.ts';

/** Runs a check for each application, and names it where there are several; what is as it should be for all is said once. */
export function eachApplication({ applications }: Facts, check: (facts: ApplicationFacts) => Said): Verdict[] {
  const verdicts = new Map<string, { verdict: Verdict; names: string[] }>();
  for (const facts of applications) {
    const { name } = facts.application;
    for (const verdict of [check(facts)].flat()) {
      const key = JSON.stringify(verdict);
      const known = verdicts.get(key);
      if (known === undefined) verdicts.set(key, { verdict, names: [name] });
      else if (!known.names.includes(name)) known.names.push(name);
    }
  }
  return [...verdicts.values()].map(({ verdict, names }) => {
    const isOfAll = names.length === applications.length && (names.length === 1 || verdict.fix === null);
    return isOfAll ? verdict : { ...verdict, text: `${names.join(' and ')}: ${verdict.text}` };
  });
}
