import { createAppServer } from './app-server.ts';
import { createBothProtocolsAppServer, createHttp2AppServer } from './app-server-http2.ts';

const CREATE = { http1: createAppServer, http2: createHttp2AppServer, both: createBothProtocolsAppServer };

const [site = 'east', server = 'app-1', port = '3001', host = '127.0.0.1', speaks = 'http1', application = 'default'] =
  process.argv.slice(2);
if (speaks !== 'http1' && speaks !== 'http2' && speaks !== 'both') throw new Error(`what is ${speaks}?`);

const app = CREATE[speaks]({ application, site, server, port: Number(port) })
  .on('error', (error) => {
    process.stderr.write(`${site}/${server}: ${error.message}\n`);
    process.exit(1);
  })
  .listen(Number(port), host, () => process.stdout.write(`${site}/${server} listening on ${host}:${port}\n`));

// As a container's first process it would otherwise ignore the signal. Requests in flight are let end.
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    app.close(() => process.exit(0));
    setTimeout(() => process.exit(0), 3_000).unref();
  });
}
