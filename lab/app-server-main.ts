import { createAppServer } from './app-server.ts';

const [site = 'east', server = 'app-1', port = '3001', host = '127.0.0.1'] = process.argv.slice(2);

createAppServer({ site, server, port: Number(port) })
  .on('error', (error) => {
    process.stderr.write(`${site}/${server}: ${error.message}\n`);
    process.exit(1);
  })
  .listen(Number(port), host, () => process.stdout.write(`${site}/${server} listening on ${host}:${port}\n`));
