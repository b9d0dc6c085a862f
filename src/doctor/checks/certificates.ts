import type { Facts } from '../facts.ts';
import { ok, type Said, steps, unchecked, type Verdict, warn, wrong } from '../finding.ts';

const EXPIRATION = /^(cluster|listener)\.(.*)\.ssl\.certificate\.(.*)\.expiration_unix_time_seconds$/;
const DAY_SECONDS = 86_400;
const FEW_DAYS = 7;

/**
 * Those of its listeners and clusters: whether Envoy could read them, and which end soon. Not those of a CA file that has no
 * name, for that may be the system's, in which some CA has ended.
 */
export function certificates({ snapshot: { stats }, nowMs }: Facts): Said {
  if (stats === null) return unchecked('the stats cannot be read');
  const verdicts: Verdict[] = [];
  const inUse = new Set([...stats.keys()].map((name) => EXPIRATION.exec(name)?.[3]));
  for (const [name, value] of stats) {
    const secret = /^sds\.(.*)\.update_success$/.exec(name)?.[1];
    // Once a file has come that it can use, that is in use, though no update is counted.
    const isTaken = secret === undefined || value > 0 || inUse.has(secret);
    if (!isTaken && (stats.get(`sds.${secret}.update_rejected`) ?? 0) > 0) {
      const fix = steps(
        'what to do:',
        'put files there that Envoy can use, each by renaming; its log says what is wrong',
      );
      verdicts.push(wrong(`Envoy takes none of what ${secret} leads to: no connection with it`, fix));
    }
    const [, kind, user, certificate = ''] = EXPIRATION.exec(name) ?? [];
    if (kind === undefined || certificate.startsWith('unnamed_ca_cert_')) continue;
    const leftSeconds = value - nowMs / 1_000;
    if (leftSeconds > FEW_DAYS * DAY_SECONDS) continue;
    const day = new Date(value * 1_000).toISOString().slice(0, 10);
    const text = `${certificate} of ${kind} ${user} ${leftSeconds < 0 ? 'has expired' : 'expires'} on ${day}`;
    const fix = steps('what to do:', 'put a new one in its place, by renaming where envoy.secrets_dir is used');
    // Of several CAs in a file an old one may have ended and be in nobody's way.
    const isOver = leftSeconds < 0 && !certificate.endsWith('_ca');
    verdicts.push(isOver ? wrong(text, fix) : warn(text, fix));
  }
  return verdicts.length > 0 ? verdicts : [ok('none that Envoy shows expires within a week')];
}

/** Envoy goes on with the certificate that it has; but it would not start with what it refuses. */
export function renewals({ snapshot: { stats } }: Facts): Said {
  if (stats === null) return unchecked('the stats cannot be read');
  const verdicts: Verdict[] = [];
  for (const [name, count] of stats) {
    const secret = /^sds\.(.*)\.key_rotation_failed$/.exec(name)?.[1];
    if (secret === undefined || count === 0) continue;
    const text = `Envoy refused ${count} times what it found of ${secret}, and went on with what it had`;
    const fix = steps(
      'what to do:',
      '# nothing where certificate and key were renewed one after the other; else see its log',
    );
    verdicts.push(warn(text, fix));
  }
  return verdicts.length > 0 ? verdicts : [ok('no certificate that came was refused')];
}
