import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Application, applicationsOf, type Config, isOneForEveryHost } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { findByHost, hostTable, NO_APPLICATION } from '../../../src/config/virtual-hosts.ts';
import type { SiteState } from '../../../src/decision/decide.ts';
import { createPolicy } from '../../../src/decision/policy.ts';
import { createProcess, type ProcessStream, type ReplyStream } from '../../../src/ext-proc/process.ts';
import { createReplies, encodeUnchanged } from '../../../src/ext-proc/replies.ts';
import { createRequestDecoder } from '../../../src/ext-proc/request.ts';
import { createRequestMatcher } from '../../../src/ext-proc/request-matcher.ts';
import { loadExtProcMethod } from '../../../src/ext-proc/service.ts';
import { Counters } from '../../../src/metrics/counters.ts';

const { requestSerialize, responseSerialize, responseDeserialize } = loadExtProcMethod();

const THREE = parseConfig(
  `
site: east
applications:
  - name: shop
    hosts: [shop.example.com, "*.shop.example.com"]
    local_pool: { cookie: SHOPEAST }
    remote_pools: [{ site: west, cookie: SHOPWEST }, { site: north, cookie: SHOPNORTH }]
  - name: mail
    hosts: [mail.example.com]
    status_uri: /mail_status
    on_owner_down: keep
    local_pool: { cookie: MAILEAST }
    remote_pools: [{ site: west, cookie: MAILWEST }]
  - name: wiki
    hosts: ["wiki.*"]
    both_cookies: local
    on_owner_down: refuse
    local_pool: { cookie: WIKIEAST }
    remote_pools: [{ site: north, cookie: WIKINORTH }]
`,
  'site.yaml',
);

/** How a sidecar with this config answers, while its applications stand so. */
function processOf(config: Config, states: readonly SiteState[]): (replies: ReplyStream) => ProcessStream {
  const policies = applicationsOf(config).map((application) => ({ application, policy: createPolicy(application) }));
  const counters = new Counters();
  return createProcess({
    applications: policies.map(({ application, policy }, index) => ({
      policy,
      replies: createReplies({
        ...{ application, policy, encode: responseSerialize },
        counters: counters.ofApplication(application.name),
      }),
      currentState: () => states[index] ?? { health: { known: false }, draining: false },
      counters: counters.ofApplication(application.name),
      onDecision: null,
    })),
    decode: createRequestDecoder({
      hosts: isOneForEveryHost(config) ? null : hostTable(config.applications.map(({ hosts }) => hosts)),
      matchers: policies.map(({ application, policy }) => createRequestMatcher(policy, application.statusUri)),
    }),
    unchanged: encodeUnchanged(responseSerialize),
    counters,
    onMalformed: () => {
      throw new Error('a message is malformed');
    },
  });
}

function answersOf(open: (replies: ReplyStream) => ProcessStream, messages: readonly Buffer[]): object[] {
  const answers: object[] = [];
  const stream = open({ write: (reply) => void answers.push(responseDeserialize(reply)), end: () => {} });
  for (const message of messages) stream.receive(message);
  return answers;
}

/** The config of a sidecar for this application alone, which takes every host but one that nobody asks for. */
function alone({ applications, ...shared }: Config, index: number): Config {
  const application = applications[index];
  if (application === undefined) throw new Error('there is no such application');
  const nobodys = { ...application, name: 'nobodys', hosts: ['nobody.invalid'] };
  return { ...shared, applications: [{ ...application, hosts: ['*'] }, nobodys] };
}

type Headers = readonly (readonly [name: string, value: string])[];

function messageOf(kind: 'request_headers' | 'response_headers', headers: Headers): Buffer {
  return requestSerialize({
    [kind]: { headers: { headers: headers.map(([key, value]) => ({ key, raw_value: Buffer.from(value) })) } },
  });
}

const cookieNames = THREE.applications.flatMap(({ localPool, remotePools }) =>
  [localPool, ...remotePools].map(({ cookie }) => cookie.name),
);
const HOSTS = ['shop.example.com', 'WWW.shop.example.com:8443', 'mail.example.com', 'wiki.test', 'cdn.example.com'];

const request = fc.record({
  host: fc.constantFrom(...HOSTS),
  path: fc.constantFrom('/', '/local_pool_status', '/mail_status', '/mail%5fstatus?x', '/x?/mail_status'),
  // One jar for all applications, as a browser would not keep it; the worst that a client can send.
  cookies: fc.subarray(cookieNames).map((names) => names.map((name) => `${name}=1`).join('; ')),
  hop: fc.boolean(),
});

const state = (sites: number) =>
  fc.record({
    health: fc.oneof(
      { weight: 5, arbitrary: fc.array(fc.boolean(), { minLength: sites, maxLength: sites }) },
      { weight: 1, arbitrary: fc.constant(null) },
    ),
    draining: fc.boolean(),
  });

const states = fc.tuple(...THREE.applications.map(({ remotePools }) => state(1 + remotePools.length))).map((all) =>
  all.map(({ health, draining }): SiteState => {
    return { health: health === null ? { known: false } : { known: true, up: health }, draining };
  }),
);

const SERVED: Headers = [
  [':status', '200'],
  ['x-envoy-upstream-service-time', '1'],
  ['proxy-connection', 'served-here'],
];

describe('of several applications each', () => {
  test('is answered as a sidecar for it alone would answer, whatever the others are like', () => {
    fc.assert(
      fc.property(request, states, ({ host, path, cookies, hop }, all) => {
        const headers: Headers = [
          [':authority', host],
          [':path', path],
          ...(cookies === '' ? [] : [['cookie', cookies] as const]),
          ...(hop ? [['x-site-hop', 'west'] as const] : []),
        ];
        const messages = [messageOf('request_headers', headers), messageOf('response_headers', SERVED)];
        const answers = answersOf(processOf(THREE, all), messages);
        const index = findByHost(hostTable(THREE.applications.map(({ hosts }) => hosts)), host);
        if (index === NO_APPLICATION) {
          expect(answers).toEqual([
            { request_headers: { response: { header_mutation: { remove_headers: ['x-site-pool'] } } } },
          ]);
          return;
        }
        expect(answers).toEqual(answersOf(processOf(alone(THREE, index), all.slice(index, index + 1)), messages));
      }),
      { numRuns: 2_000 },
    );
  });

  test('is found wherever the authority stands among the headers', () => {
    const up = THREE.applications.map(({ remotePools }): SiteState => {
      return { health: { known: true, up: [true, ...remotePools.map(() => true)] }, draining: false };
    });
    const headers: Headers = [
      ['cookie', 'MAILWEST=1'],
      [':path', '/'],
      [':authority', 'mail.example.com'],
    ];
    const [answer] = answersOf(processOf(THREE, up), [messageOf('request_headers', headers)]);
    const set = { header: { key: 'x-site-pool', raw_value: Buffer.from('mail_west') } };
    expect(answer).toMatchObject({ request_headers: { response: { header_mutation: { set_headers: [set] } } } });
    const [none] = answersOf(processOf(THREE, up), [messageOf('request_headers', headers.slice(0, 2))]);
    expect(JSON.stringify(none)).not.toContain('dynamic_metadata');
  });
});

test('an application has its own settings, and those of the file where it says none', () => {
  const [shop, mail, wiki] = applicationsOf(THREE) as readonly [Application, Application, Application];
  expect([shop.onOwnerDown, mail.onOwnerDown, wiki.onOwnerDown]).toEqual(['adopt', 'keep', 'refuse']);
  expect([shop.statusUri, mail.statusUri, wiki.bothCookies]).toEqual(['/local_pool_status', '/mail_status', 'local']);
  expect([shop.localPool.cluster, shop.remotePools[1]?.cluster]).toEqual(['shop_local', 'shop_north']);
});
