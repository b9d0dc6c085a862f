import { HOP_HEADER, POOL_HEADER } from '../../contract.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { fitted } from '../filters-of.ts';
import { ok, type Said, steps, warn, wrong, yaml } from '../finding.ts';
import { textAt } from '../json.ts';
import { isRedirect, redirectsTo } from '../redirects.ts';
import { describeRoute, firstRoute, type RouteSurvey, runtimeOfAsking } from '../route-survey.ts';
import { routeConfigOf } from '../virtual-hosts.ts';

/** Sessions of a site with an own address are sent there, but none that could go round. */
export function redirects({ hosts }: RouteSurvey, facts: ApplicationFacts, edge: Edge): Said {
  const { application, snapshot, rendered } = facts;
  const { localPool, remotePools } = application;
  const runtime = runtimeOfAsking(application, snapshot);
  const hop = remotePools[0]?.site ?? 'other';
  const verdicts = hosts.flatMap((host) =>
    remotePools.flatMap((pool): Said => {
      const taking = (headers: Readonly<Record<string, string>>) =>
        firstRoute(host, { path: '/', headers, runtime }, new Set());
      const session = { [POOL_HEADER]: pool.cluster, cookie: `a=1; ${pool.cookie.name}=x` };
      const route = taking(session);
      const name = describeRoute(route);
      const circles = [
        { headers: { ...session, [HOP_HEADER]: hop }, what: 'what another site has forwarded' },
        {
          headers: { ...session, cookie: `${session.cookie}; ${localPool.cookie.name}=x` },
          what: 'a client with the cookies of both sites',
        },
      ].flatMap(({ headers, what }): Said => {
        const taken = taking(headers);
        if (!isRedirect(taken)) return [];
        const fix = steps('match in it also that:', `${HOP_HEADER} and the cookies of all other sites are absent`);
        return wrong(`${describeRoute(taken)} redirects ${what}: it could loop`, fix);
      });
      if (circles.length > 0 || pool.redirect === null) return circles;
      if (!redirectsTo(route, pool)) {
        const model = fitted(rendered.route(`decided_${pool.cluster}_redirect`), edge, facts);
        const where = `in routes of virtual host ${host.name} of ${routeConfigOf(edge)}, before ${name} (see "site-persistence envoy" for its clusters):`;
        const text = `${name} proxies sessions of ${pool.site}, though remote_pools[].redirect is ${pool.redirect}`;
        return warn(text, yaml(where, [model]));
      }
      if (!isRedirect(route) || textAt(route, 'redirect', 'response_code') === 'TEMPORARY_REDIRECT') return [];
      const fix = yaml(`in ${name}:`, { redirect: { response_code: 'TEMPORARY_REDIRECT' } });
      return wrong(
        `${name} redirects for good: a browser keeps that, and a session that moves is not found again`,
        fix,
      );
    }),
  );
  if (verdicts.length > 0) return verdicts;
  const addresses = remotePools.flatMap(({ redirect }) => redirect ?? []);
  return ok(addresses.length === 0 ? 'none: requests are proxied' : `to ${addresses.join(', ')}`);
}
