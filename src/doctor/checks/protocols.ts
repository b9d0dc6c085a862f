import { formatAddress, type TcpAddress } from '../../config/address.ts';
import type { LocalProtocol } from '../../config/config.ts';
import { overHttp2 } from '../../envoy-config/names.ts';
import { enforcesKeyUsage } from '../../envoy-config/versions.ts';
import type { ApplicationFacts, Facts } from '../facts.ts';
import { ok, type Said, steps, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { http2OptionsOf, httpProtocolOptions } from '../http-protocol-options.ts';
import { at, pick } from '../json.ts';
import type { Spoken } from '../spoken-protocols.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';

/** What Envoy speaks to the servers of each pool, and whether they understand it. */
export const PROTOCOL_CHECKS: CheckGroup = {
  name: 'Protocols',
  checks: [
    { name: 'local pool', run: (facts) => eachApplication(facts, localProtocol) },
    { name: 'between sites', run: (facts) => eachApplication(facts, betweenSites) },
    { name: 'certificates', run: certificates },
  ],
};

type SpokenByEnvoy = LocalProtocol | 'auto';

function protocolOf(cluster: unknown): SpokenByEnvoy {
  const options = httpProtocolOptions(cluster);
  if (at(options, 'use_downstream_protocol_config') !== undefined) return 'downstream';
  if (at(options, 'auto_config') !== undefined) return 'auto';
  return http2OptionsOf(cluster) === undefined ? 'http1' : 'http2';
}

const LABELS: Readonly<Record<SpokenByEnvoy, string>> = {
  http1: 'HTTP/1.1',
  http2: 'HTTP/2',
  downstream: 'what the client spoke, HTTP/1.1 or HTTP/2',
  auto: 'what TLS agrees on',
};

function localProtocol(facts: ApplicationFacts): Said {
  const { application, snapshot, expected } = facts;
  const { cluster, protocol } = application.localPool;
  const spoken = facts.spoken.filter((server) => server.cluster === cluster);
  const settings = snapshot.clusters.get(cluster);
  // What is not there, or down, is said elsewhere.
  if (settings === undefined) return [];
  const actual = protocolOf(settings);
  const verdicts: Verdict[] = [];
  // Where the operator's own Envoy config lists the servers, the key is for nothing.
  if (actual !== protocol && application.localPool.servers.length > 0) {
    verdicts.push(
      warn(
        `Envoy speaks ${LABELS[actual]} to ${cluster}, and the config file says ${protocol} (local_pool.protocol)`,
        yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), 'typed_extension_protocol_options')),
      ),
    );
  }
  const isAnyUp = snapshot.hosts?.get(cluster)?.some(({ up }) => up) === true;
  if (spoken.length === 0 && isAnyUp) verdicts.push(unchecked(`no server of ${cluster} could be asked what it speaks`));
  return [...verdicts, ...spoken.map((server) => understands(server, actual, facts))];
}

const PRINT = 'site-persistence envoy > envoy.yaml';

function understands(
  { address, ...speaks }: Spoken,
  actual: SpokenByEnvoy,
  { application }: ApplicationFacts,
): Verdict {
  const { http1, http2 } = speaks;
  if (!http1 && !http2) {
    if (!speaks.isOther) return unchecked(`${address} could not be asked what it speaks: ${speaks.why}`);
    const text = `${address} speaks neither HTTP/1.1 nor HTTP/2 ${speaks.isOverTls ? 'over TLS' : 'in clear text'}: ${speaks.why}`;
    if (!speaks.isOverTls && application.localPool.tls !== null) {
      return wrong(text, steps('print the Envoy config again, and start Envoy with it:', PRINT));
    }
    return wrong(
      text,
      yaml("in the site's config file, and print Envoy's config again:", {
        local_pool: { tls: speaks.isOverTls ? null : { sni: 'app.internal' } },
      }),
    );
  }
  const needs = {
    http1: { http1: true, http2: false },
    http2: { http1: false, http2: true },
    downstream: { http1: true, http2: true },
    auto: { http1: !http2, http2: false },
  }[actual];
  const lacking = [...(needs.http1 && !http1 ? ['HTTP/1.1'] : []), ...(needs.http2 && !http2 ? ['HTTP/2'] : [])];
  if (lacking.length === 0) return ok(`${address} speaks ${LABELS[actual]}`);
  const suits = http1 && http2 ? 'downstream' : http2 ? 'http2' : 'http1';
  return wrong(
    `${address} does not speak ${lacking.join(' or ')}, only ${http1 ? 'HTTP/1.1' : 'HTTP/2'}: requests by it fail, though its health check may pass`,
    yaml("in the site's config file, and print Envoy's config again:", { local_pool: { protocol: suits } }),
  );
}

/** gRPC ends with trailers, which HTTP/1.1 between two Envoys drops. */
function betweenSites({ application, snapshot }: ApplicationFacts): Said {
  const localSpeaks = protocolOf(snapshot.clusters.get(application.localPool.cluster));
  const present = application.remotePools.filter(({ cluster }) => snapshot.clusters.has(cluster));
  return present.map((pool) => {
    const { cluster, site } = pool;
    const actual = protocolOf(snapshot.clusters.get(cluster));
    const isHttp1 = actual === 'http1' && !snapshot.clusters.has(overHttp2(pool));
    if (isHttp1 && localSpeaks !== 'http1') {
      return wrong(
        `Envoy speaks HTTP/1.1 to ${site}: gRPC for sessions of ${site} fails, though both sites are up`,
        yaml(`in the remote pool of ${site} in the site's config file, and print Envoy's config again:`, {
          protocol: 'http2',
        }),
      );
    }
    return ok(
      `${cluster}: ${LABELS[actual]}${isHttp1 || actual !== 'http1' ? '' : `, and HTTP/2 where ${site} speaks it`}`,
    );
  });
}

/** Servers' certificates that only some Envoys take. */
function certificates({ config, snapshot, peers, version }: Facts): Said {
  const pools = config.applications
    .flatMap(({ localPool, remotePools }) => [localPool, ...remotePools])
    .filter(({ tls, servers }) => tls !== null && servers.length > 0);
  if (pools.length === 0) return ok('Envoy speaks TLS to no pool');
  if (snapshot.hosts === null) return unchecked('whether a pool with TLS is up cannot be read');
  const isSeen = (server: TcpAddress) => peers.some(({ address }) => address === formatAddress(server));
  const isUp = (cluster: string) => snapshot.hosts?.get(cluster)?.some(({ up }) => up) === true;
  // What is down is said elsewhere.
  const unseen = pools.filter(({ cluster, servers }) => isUp(cluster) && !servers.some(isSeen)).length;
  const missing =
    unseen > 0 ? [unchecked(`${unseen} of ${pools.length} pools with TLS showed no certificate here`)] : [];
  const seen = peers.map(({ address, site, sni, why }) => {
    if (why === null) return ok(`that of ${address} (${site}): its keyUsage suits every Envoy`);
    const text = `that of ${address} (${site}): ${why}`;
    return enforcesKeyUsage(version) ? wrong(text, steps('to see it:', showCertificate(address, sni))) : warn(text);
  });
  const verdicts = [...seen, ...missing];
  return verdicts.length > 0 ? verdicts : [ok('no pool with TLS is up')];
}

function showCertificate(address: string, sni: string): string {
  return `openssl s_client -connect ${address} -servername ${sni} </dev/null | openssl x509 -noout -ext keyUsage`;
}
