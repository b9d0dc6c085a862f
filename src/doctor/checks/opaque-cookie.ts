import { OPAQUE_FILTER } from '../../envoy-config/names.ts';
import type { ConnectionManager, HttpFilter } from '../connection-managers.ts';
import { LUA } from '../extension-types.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { standInsOf, stickinessFilter } from '../filters-of.ts';
import { ok, type Said, unchecked, type Verdict, wrong, yaml } from '../finding.ts';
import { at, listAt, textAt } from '../json.ts';
import { isOn, settingsOf } from '../per-route.ts';
import { eachEdge, noHosts } from './edges.ts';

/** With `cookie.opaque` what clients get must tell no address: at each edge, and behind the stand-in listener. */
export function opaqueCookie(facts: ApplicationFacts): Verdict[] {
  const { name, opaque } = facts.application.localPool.cookie;
  if (opaque === null) {
    return eachEdge(facts, () => ok(`${name} is a server's address in base64: local_pool.cookie.opaque would hide it`));
  }
  const said = [
    ...eachEdge(facts, atEdge),
    ...standInsOf(facts).flatMap((manager) => {
      const hosts = listAt(manager.routeConfig, 'virtual_hosts');
      return hosts.flatMap((config) => atHost(manager, { name: textAt(config, 'name') ?? '', config }, facts));
    }),
  ];
  return said.length > 0 ? said : [ok(`${name} tells no server's address`)];
}

function atEdge(edge: Edge, facts: ApplicationFacts): Said {
  const none = noHosts(edge, facts);
  if (none !== null) return none;
  const survey = facts.surveys.get(edge);
  if (survey === undefined) return unchecked('the routes cannot be read');
  return survey.hosts.flatMap((host) => atHost(edge, host, facts));
}

interface Host {
  readonly name: string;
  readonly config: unknown;
}

function atHost(manager: ConnectionManager, host: Host, facts: ApplicationFacts): Verdict[] {
  const { application, expected, rendered } = facts;
  const { name } = application.localPool.cookie;
  const place = `${manager.label}, virtual host ${host.name}`;
  const filters = manager.filters.filter(({ type }) => type === LUA);
  const model = at(rendered.virtualHost, 'typed_per_filter_config', OPAQUE_FILTER);
  const filter = filters.find((each) => scriptOf(each, host) !== undefined && each.name === OPAQUE_FILTER);
  const ofHost = yaml(`in virtual host ${host.name} of ${manager.label}:`, {
    typed_per_filter_config: { [OPAQUE_FILTER]: model },
  });
  if (filter === undefined) {
    if (!filters.some((each) => each.name === OPAQUE_FILTER)) {
      const fix = yaml('in http_filters, before that of stateful_session:', [expected.filter(OPAQUE_FILTER)]);
      return [wrong(`${place}: there is no filter ${OPAQUE_FILTER}: ${name} tells the address of a server`, fix)];
    }
    return [wrong(`${place}: ${OPAQUE_FILTER} does nothing there: ${name} tells the address of a server`, ofHost)];
  }
  const sticky = stickinessFilter(manager, application);
  if (sticky !== undefined && manager.filters.indexOf(filter) > manager.filters.indexOf(sticky)) {
    const fix = yaml('before the filter of stateful_session, not behind it:', [expected.filter(OPAQUE_FILTER)]);
    return [wrong(`${place}: ${OPAQUE_FILTER} comes behind stateful_session: no client stays at its server`, fix)];
  }
  if (scriptOf(filter, host) === scriptIn(model)) return [];
  const text = `${place}: ${OPAQUE_FILTER} goes by other keys, servers or names than the config file`;
  return [wrong(`${text}: sessions may lose their server`, ofHost)];
}

function scriptOf(filter: HttpFilter, { config }: Host): string | undefined {
  return isOn(filter, [config]) ? scriptIn(settingsOf(filter, [config])) : undefined;
}

function scriptIn(settings: unknown): string | undefined {
  return textAt(settings, 'source_code', 'inline_string');
}
