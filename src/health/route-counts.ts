import { applicationsOf, type Config } from '../config/config.ts';
import type { Counts } from '../envoy-admin/admin-client.ts';
import { ownSessionsStatPrefix } from '../envoy-config/names.ts';
import { type SteadyDecision, steadyDecisions } from '../envoy-config/steady-routes.ts';
import type { Counters } from '../metrics/counters.ts';

/** Stands for the answers of the edge's health_check filter, which is asked before any route is counted. */
const STATUS_ANSWERS = '';

/**
 * Adds to the decisions what Envoy's routes decided without the sidecar, and the sessions whose server was gone. Several sidecars of one Envoy each count all of it.
 * Envoy counts from its start, which may be before this sidecar's, and begins anew when it restarts.
 */
export class RouteCounts {
  readonly #counters: Counters;
  readonly #last = new Map<string, number>();
  #isBaseline = true;

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** Another Envoy is asked from now on, whose counts so far are not news. */
  reset(): void {
    this.#isBaseline = true;
    this.#last.clear();
  }

  observe({ decisions, sessions }: Counted, { routes, statusAnswers, ownSessions }: Counts): void {
    for (const { application, statPrefix, reason, owner } of decisions) {
      const more = this.#more(
        statPrefix,
        statPrefix === STATUS_ANSWERS ? statusAnswers : (routes.get(statPrefix) ?? 0),
      );
      if (more > 0) this.#counters.ofApplication(application).decision(reason, owner).count += more;
    }
    for (const { application, statPrefix } of sessions) {
      const seen = ownSessions.get(statPrefix);
      const more = this.#more(statPrefix, seen?.failedOpen ?? 0);
      const counters = this.#counters.ofApplication(application);
      if (seen !== undefined) counters.serverGone = (counters.serverGone ?? 0) + more;
    }
    this.#isBaseline = false;
  }

  #more(statPrefix: string, now: number): number {
    const before = this.#last.get(statPrefix) ?? (this.#isBaseline ? now : 0);
    this.#last.set(statPrefix, now);
    return now >= before ? now - before : now;
  }
}

/** What is read of Envoy's own counters, under one config. */
export interface Counted {
  readonly decisions: readonly SteadyDecision[];
  /** Of each application the sessions that live here. */
  readonly sessions: readonly Pick<SteadyDecision, 'application' | 'statPrefix'>[];
}

export function countedOf(config: Config): Counted {
  return {
    decisions: countedDecisions(config),
    sessions: applicationsOf(config).map((application) => {
      return { application: application.name, statPrefix: ownSessionsStatPrefix(application) };
    }),
  };
}

/** What Envoy's routes may decide under this config. */
function countedDecisions(config: Config): readonly SteadyDecision[] {
  return applicationsOf(config).flatMap((application) => [
    ...steadyDecisions(application),
    ...(application.envoy.fastPath && application.isForEveryHost ? [statusOf(application.name)] : []),
  ]);
}

function statusOf(application: string): SteadyDecision {
  return { application, statPrefix: STATUS_ANSWERS, reason: 'status', owner: 'none' };
}
