import { printable } from '../config/config-error.ts';
import type { Finding, Mark } from './finding.ts';

/** An admin interface, or a file that has what one answers. */
export type Source = { readonly admin: string } | { readonly file: string };

export interface Report {
  readonly site: string;
  /** Where Envoy's config was read. */
  readonly source: Source;
  /** Null where Envoy does not say. */
  readonly version: string | null;
  readonly findings: readonly Finding[];
}

const LABELS: Readonly<Record<Mark, string>> = { ok: 'ok', warn: 'warn', wrong: 'WRONG', unchecked: '?' };
const COLOURS: Readonly<Record<Mark, string>> = { ok: '32', warn: '33', wrong: '1;31', unchecked: '36' };
const LABEL_WIDTH = 5;

/** For people: a line for each finding, by group, and what fixes it below. */
export function printReport(report: Report, { colour }: { readonly colour: boolean }): string {
  const { site, version, source, findings } = report;
  const where = 'admin' in source ? `at ${source.admin}` : `in ${source.file}`;
  const head = `site ${site}, Envoy ${version ?? 'of unknown version'} ${where}`;
  return `${[head, '', ...linesOf(findings, colour), '', summary(findings)].join('\n')}\n`;
}

/** The same of some findings, without what is said of all. */
export function printFindings(findings: readonly Finding[], { colour }: { readonly colour: boolean }): string {
  return `${linesOf(findings, colour).join('\n')}\n`;
}

function linesOf(findings: readonly Finding[], colour: boolean): string[] {
  const paint = (mark: Mark, text: string) => (colour ? `\x1b[${COLOURS[mark]}m${text}\x1b[0m` : text);
  const width = Math.max(...findings.map(({ check }) => check.length));
  const indent = ' '.repeat(2 + LABEL_WIDTH + 2);
  const lines: string[] = [];
  let group = '';
  for (const finding of findings) {
    if (finding.group !== group) lines.push(...(lines.length === 0 ? [] : ['']), finding.group);
    group = finding.group;
    const label = paint(finding.mark, LABELS[finding.mark].padEnd(LABEL_WIDTH));
    lines.push(`  ${label}  ${finding.check.padEnd(width)}  ${printable(finding.text)}`);
    if (finding.fix !== null) {
      lines.push(`${indent}${printable(finding.fix.where)}`);
      lines.push(...finding.fix.lines.split('\n').map((line) => `${indent}  ${printable(line)}`));
    }
  }
  return lines;
}

function summary(findings: readonly Finding[]): string {
  const count = (mark: Mark) => findings.filter((finding) => finding.mark === mark).length;
  const unknown = count('unchecked');
  const parts = [`${count('ok')} ok`, `${count('warn')} warn`, `${count('wrong')} wrong`];
  return [...parts, ...(unknown === 0 ? [] : [`${unknown} could not be checked`])].join(', ');
}

/** For machines. */
export function jsonReport({ site, source, version, findings }: Report): string {
  const count = (mark: Mark) => findings.filter((finding) => finding.mark === mark).length;
  const counts = { ok: count('ok'), warn: count('warn'), wrong: count('wrong'), unchecked: count('unchecked') };
  return `${JSON.stringify({ site, envoy: { ...source, version }, counts, findings }, null, 2)}\n`;
}
