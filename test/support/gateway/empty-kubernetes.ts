import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

/** Such as `/api/v1/namespaces/istio-system/configmaps/istio`. */
const ONE_OBJECT = /\/namespaces\/[^/]+\/[^/]+\/[^/]+$/;

/**
 * The API server of a cluster with nothing in it, as far as Istio's control plane asks: it takes the application's
 * resources from files, and does not start without a cluster.
 */
export async function startEmptyKubernetes(host: string, port: number): Promise<Server> {
  const server = createServer(answer);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(port, host, resolve);
  });
  return server;
}

/** What a client of that server is configured with. */
export function kubeconfigOf(url: string): object {
  return {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'empty' },
    clusters: [{ name: 'empty', cluster: { server: url } }],
    contexts: [{ name: 'empty', context: { cluster: 'empty', user: 'nobody' } }],
    users: [{ name: 'nobody', user: {} }],
  };
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://kubernetes');
  const [status, body] = answerTo(request, pathname, searchParams);
  response.writeHead(status, { 'content-type': 'application/json' });
  // A watch: nothing ever changes.
  if (body === null) response.flushHeaders();
  else response.end(JSON.stringify(body));
}

function answerTo({ method, headers }: IncomingMessage, path: string, query: URLSearchParams): [number, object | null] {
  if (method !== 'GET') return failure(403, 'Forbidden');
  if (path === '/version') return [200, { major: '1', minor: '34', gitVersion: 'v1.34.0' }];
  if (path === '/api') return [200, { kind: 'APIVersions', versions: ['v1'] }];
  if (path === '/apis') return [200, { kind: 'APIGroupList', apiVersion: 'v1', groups: [] }];
  if (ONE_OBJECT.test(path)) return failure(404, 'NotFound');
  if (query.has('sendInitialEvents')) return failure(400, 'BadRequest');
  if (query.has('watch')) return [200, null];
  // Without a kind a list is taken for what was asked for.
  const ofMetadata = String(headers.accept).includes('PartialObjectMetadataList');
  const kind = ofMetadata ? { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1' } : {};
  return [200, { ...kind, metadata: { resourceVersion: '1' }, items: [] }];
}

function failure(code: number, reason: string): [number, object] {
  return [code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, code }];
}
