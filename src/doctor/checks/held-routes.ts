import { openKey } from '../../contract.ts';
import type { ApplicationFacts } from '../facts.ts';
import { ok, type Said, warn, yaml } from '../finding.ts';
import { pick, textAt } from '../json.ts';
import { describeRoute, type RouteSurvey } from '../route-survey.ts';

/** Without a decision a request with another site's cookie goes there; a route that does not read the key still sends there while the site is held. */
export function heldWithoutSidecar({ requests }: RouteSurvey, { application, rendered }: ApplicationFacts): Said {
  const verdicts = application.remotePools.flatMap(({ cluster, site }) => {
    const key = openKey(application.name, site);
    const unaware = requests
      .filter(({ kind, destination }) => kind === 'undecided' && destination?.first.has(cluster) === true)
      .filter(({ route }) => textAt(route, 'match', 'runtime_fraction', 'runtime_key') !== key)
      .map(({ route }) => describeRoute(route));
    const model = rendered.route(`undecided_${cluster}`);
    return [...new Set(unaware)].map((name) =>
      warn(
        `${name} does not read ${key}: without a sidecar a hold of ${site} is not obeyed`,
        yaml(`in ${name}:`, pick(model, 'match', 'runtime_fraction')),
      ),
    );
  });
  return verdicts.length > 0 ? verdicts : [ok('without a sidecar what is held is not sent to')];
}
