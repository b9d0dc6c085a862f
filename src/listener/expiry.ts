import type { ChangeLog } from '../log/changes.ts';
import type { Validity } from './certificates.ts';

const DAY_MS = 24 * 3_600_000;

/** A year's certificate is said to end two weeks before, one of a day's six hours before: after it should have been renewed. */
const MOST_NOTICE_MS = 14 * DAY_MS;
const SHARE_OF_LIFETIME = 1 / 4;

const CHECK_MS = 60_000;

export interface ExpiryWatch {
  /** Another certificate is in force. */
  renewed(validity: Validity): void;
  close(): void;
}

/** Says once that a certificate ends soon, and once that it has ended. @param key the config's, such as `listen_tls.cert_file` */
export function watchExpiry(key: string, validity: Validity, changes: ChangeLog): ExpiryWatch {
  let current = validity;
  let said: 'nothing' | 'ends' | 'has ended' = 'nothing';

  function check(): void {
    const { validFrom, validTo } = current;
    const leftMs = validTo.getTime() - Date.now();
    if (leftMs < 0) {
      if (said === 'has ended') return;
      said = 'has ended';
      changes.error(`${key}: the certificate has expired: new connections fail until it is replaced`);
      return;
    }
    const noticeMs = Math.min(MOST_NOTICE_MS, (validTo.getTime() - validFrom.getTime()) * SHARE_OF_LIFETIME);
    if (leftMs > noticeMs || said !== 'nothing') return;
    said = 'ends';
    changes.warn(
      `${key}: the certificate expires at ${validTo.toISOString()}, ${inWords(leftMs)} from now: replace it`,
    );
  }

  check();
  const timer = setInterval(check, CHECK_MS);
  timer.unref();
  return {
    renewed(next) {
      current = next;
      said = 'nothing';
      check();
    },
    close: () => clearInterval(timer),
  };
}

function inWords(ms: number): string {
  const days = Math.floor(ms / DAY_MS);
  const hours = Math.floor(ms / 3_600_000);
  if (days > 1) return `${days} days`;
  return hours > 1 ? `${hours} hours` : 'less than two hours';
}
