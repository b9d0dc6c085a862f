import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { expect, onTestFinished, test } from 'vitest';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI } from '../../lab/site-processes.ts';
import { EXT_PROC, grpcFrame, requestHeaders } from '../integration/ext-proc-client.ts';
import { eastFile, startAdmin, WEST_COOKIE, writeSiteFile } from '../integration/site.ts';

test('the sidecar stays below 150 MB at full load, started as the command is', async () => {
  const file = await eastFile(await startAdmin());
  const serve = new ManagedProcess({
    name: 'serve',
    command: CLI,
    args: ['serve', '--config', await writeSiteFile(file)],
  });
  onTestFinished(async () => void (await serve.stop('SIGKILL')));
  await serve.waitForLine(/deciding on/);
  const load = spawn(process.execPath, ['-e', LOAD, `http://${file.listen}`, decisionFrame().toString('base64')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void load.kill('SIGKILL'));
  const [answered] = await once(load.stdout, 'data');
  expect(String(answered)).toBe('answered\n');
  const status = await readFile(`/proc/${serve.pid}/status`, 'utf8');
  expect(Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1_000).toBeLessThan(150);
}, 600_000);

function decisionFrame(): Buffer {
  return grpcFrame(requestHeaders({ cookie: `${WEST_COOKIE}=1`, 'user-agent': 'x'.repeat(200) }));
}

/**
 * Asks for 100,000 decisions as fast as it can, 100 at a time. Without the options Node's heap is past the limit by then;
 * after 40,000 it is not.
 */
const LOAD = `
  const { connect } = require('node:http2');
  const [url, frame] = [process.argv[1], Buffer.from(process.argv[2], 'base64')];
  const session = connect(url);
  let answered = 0;
  const ask = () => {
    const stream = session.request({
      ':method': 'POST', ':path': '/${EXT_PROC}/Process', 'content-type': 'application/grpc', te: 'trailers',
    });
    let bytes = 0;
    stream.on('data', (data) => { bytes += data.length; }).on('error', () => {});
    stream.on('close', () => { if (bytes > 0) answered++; if (answered < 100_000) ask(); else end(); });
    stream.end(frame);
  };
  const end = () => { console.log('answered'); process.exit(); };
  for (let count = 0; count < 100; count++) ask();
`;
