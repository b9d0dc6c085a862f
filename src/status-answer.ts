/** The answers to the status URI, the sidecar's and Envoy's own: monitors look for these very texts. */
export function statusBody(up: boolean): string {
  return `LOCAL POOL STATE: ${up ? 'UP' : 'DOWN'}`;
}

export const STATUS_CONTENT_TYPE = 'text/html';
