/** Says something in the demo's terminal, with the time. */
export function say(line: string): void {
  process.stdout.write(`${new Date().toTimeString().slice(0, 8)} ${line}\n`);
}

/** The sidecar's log lines: each change of a pool as it happens. */
export function showLog(site: string, line: string): void {
  const entry = parseJson(line);
  if (entry !== undefined && typeof entry.msg === 'string') say(`${site}: ${entry.msg}`);
}

/** Envoy's access log: each request with its decision, but for the other site's health checks, which come every second. */
export function showRequest(site: string, line: string): void {
  const entry = parseJson(line);
  if (entry?.path === undefined) return;
  if (entry.path === '/local_pool_status' && entry.hop !== null) return;
  const decision = entry.decision === null ? 'no decision' : `${entry.decision}, owner ${entry.owner}`;
  say(
    `${site}: ${entry.application}: ${entry.method} ${entry.path} → ${entry.status} (${decision}; ${entry.upstream_host ?? 'answered here'})`,
  );
}

function parseJson(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
