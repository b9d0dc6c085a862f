import { expect, test } from 'vitest';
import { ok, unchecked, warn, wrong, yaml } from '../../../src/doctor/finding.ts';
import { jsonReport, printReport, type Report } from '../../../src/doctor/report.ts';

const REPORT: Report = {
  site: 'east',
  source: { admin: 'http://127.0.0.1:9901' },
  version: '1.40.0',
  findings: [
    { group: 'Envoy', check: 'version', ...ok('1.40.0') },
    { group: 'Envoy', check: 'updates', ...warn('refused: \x1b[31mred\n') },
    { group: 'Pools', check: 'hosts', ...unchecked('not to be read') },
    { group: 'Pools', check: 'retry limit', ...wrong('3 at a time', yaml('in cluster x:', { a: { b: '1' }, c: [1] })) },
  ],
};

test('for people: by group, a line for each finding, the fix below, and nothing that a terminal would obey', () => {
  expect(printReport(REPORT, { colour: false })).toBe(`site east, Envoy 1.40.0 at http://127.0.0.1:9901

Envoy
  ok     version      1.40.0
  warn   updates      refused: \\u{1b}[31mred\\u{a}

Pools
  ?      hosts        not to be read
  WRONG  retry limit  3 at a time
         in cluster x:
           a:
             b: "1"
           c:
             - 1

1 ok, 1 warn, 1 wrong, 1 could not be checked
`);
});

test('in colour the same text', () => {
  const text = printReport(REPORT, { colour: true });
  expect(text).toContain('\x1b[1;31mWRONG\x1b[0m  retry limit');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal's colours are made of them
  expect(text.replace(/\x1b\[[\d;]*m/g, '')).toBe(printReport(REPORT, { colour: false }));
});

test('for machines: everything', () => {
  expect(JSON.parse(jsonReport(REPORT))).toEqual({
    site: 'east',
    envoy: { admin: 'http://127.0.0.1:9901', version: '1.40.0' },
    counts: { ok: 1, warn: 1, wrong: 1, unchecked: 1 },
    findings: REPORT.findings,
  });
});
