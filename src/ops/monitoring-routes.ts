import { type Question, send, sendText } from './http-listener.ts';
import type { Metrics } from './metrics-text.ts';
import type { SiteStateReport } from './state.ts';

export interface Monitored {
  readonly state: () => SiteStateReport;
  readonly metrics: Metrics;
}

/** What the monitoring listener has; the ops listener has it as well. */
const MONITORING_ROUTES = ['/metrics', '/livez', '/readyz'];

/** Answers what monitoring asks, which changes nothing. @returns whether it was that */
export async function answerMonitoring({ state, metrics }: Monitored, question: Question): Promise<boolean> {
  const { route, response } = question;
  switch (route) {
    case 'GET /metrics':
      send(response, 200, metrics.contentType, await metrics.text());
      return true;
    case 'GET /livez':
      sendText(response, 200, 'ok');
      return true;
    case 'GET /readyz': {
      const why = state().not_ready;
      sendText(response, why === null ? 200 : 503, why ?? 'ready');
      return true;
    }
    default:
      return false;
  }
}

/** The routes of `metrics_listen`. */
export function createMonitoringAnswer(monitored: Monitored) {
  return async (question: Question): Promise<void> => {
    if (await answerMonitoring(monitored, question)) return;
    sendText(question.response, 404, `no ${question.route} here: GET ${MONITORING_ROUTES.join(', ')}`);
  };
}
