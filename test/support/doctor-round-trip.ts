import { expect } from 'vitest';
import { parse } from 'yaml';
import type { Finding } from '../../src/doctor/finding.ts';
import type { DoctorCase } from './doctor-cases.ts';
import type { Changes, Examined } from './doctor-file.ts';
import { paste } from './json-tree.ts';

/** All but what is fine, as `check: mark`. */
export function troubles(findings: readonly Finding[]): string[] {
  return findings.filter(({ mark }) => mark !== 'ok').map(({ check, mark }) => `${check}: ${mark}`);
}

export const ALL_WELL = { code: 0, troubles: [] };

export function outcome({ code, findings }: Examined) {
  return { code, troubles: troubles(findings) };
}

/** Breaks a site, finds what is said of it, and pastes the fix where it goes: all must be well. */
export async function roundTrip(
  { finds, says, fix, at, besides = [], ...changes }: DoctorCase,
  examine: (changes: Changes) => Examined | Promise<Examined>,
): Promise<void> {
  const { code, findings } = await examine(changes);
  const isBesides = (line: string) =>
    (besides.includes('*') || besides.includes(line.replace(/: \w+$/, ''))) && !finds.includes(line);
  const found = troubles(findings).filter((line) => !isBesides(line));
  expect(found.sort()).toEqual([...finds].sort());
  const [check, mark] = (finds[0] ?? '').split(': ');
  const candidates = findings.filter((finding) => finding.check === check && finding.mark === mark);
  expect(candidates.map(({ text }) => text)).toContainEqual(expect.stringMatching(says));
  const finding = candidates.find(({ text }) => says.test(text));
  if (fix !== undefined) expect(finding?.fix?.lines).toMatch(fix);
  expect(code).toBe(findings.some((other) => other.mark === 'wrong') ? 1 : 0);
  if (at === undefined) return;

  const lines: unknown = parse(finding?.fix?.lines ?? '');
  const fixed = await examine({
    ...changes,
    bootstrap: (bootstrap, ports) => {
      changes.bootstrap?.(bootstrap, ports);
      paste(at(bootstrap), lines);
    },
  });
  expect(outcome(fixed)).toEqual(ALL_WELL);
}
