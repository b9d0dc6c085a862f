// preStop of a sidecar: where the pod ends, the end of Envoy, gently; where this container alone is restarted, nothing.
// Usage: node end-pod.mjs MIN_SECONDS MAX_SECONDS ADMIN_SOCKET; ENVOY_STOPS and ENVOY_MAY_STOP are files in its directory.
import { existsSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const [minSeconds, maxSeconds, socketPath] = process.argv.slice(2);
const directory = dirname(socketPath);

// Kubernetes runs the hooks of all containers at once: Envoy's says that it stops as well.
const isPodEnding = async () => {
  for (let tries = 0; tries < 20; tries += 1) {
    if (existsSync(`${directory}/envoy-stops`)) return true;
    await sleep(100);
  }
  return false;
};

const ask = (method, path) =>
  new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, headers: { host: 'admin' }, timeout: 2_000 }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part) => {
        text += part;
      });
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve(text);
        else reject(new Error(`${method} ${path}: Envoy answered ${answer.statusCode}`));
      });
    });
    call.on('timeout', () => call.destroy(new Error('no answer'))).on('error', reject);
    call.end();
  });

/** Requests that clients have open at the edge, none where Envoy does not say. */
const openRequests = async () => {
  const stats = await ask('GET', '/stats?filter=^http\\..*\\.downstream_rq_active$').catch(() => '');
  return [...stats.matchAll(/^http\.(?!admin|monitor|async)\S+: (\d+)$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
};

if (await isPodEnding()) {
  const startedAt = Date.now();
  const seconds = () => (Date.now() - startedAt) / 1_000;
  // From now on each answer closes its connection, and new ones are still taken: the clients go where the load balancer sends them.
  await ask('POST', '/drain_listeners?graceful&skip_exit').catch((error) => process.stderr.write(`${error.message}\n`));
  while (seconds() < Number(minSeconds) || (seconds() < Number(maxSeconds) && (await openRequests()) > 0))
    await sleep(200);
  writeFileSync(`${directory}/envoy-may-stop`, '');
}
