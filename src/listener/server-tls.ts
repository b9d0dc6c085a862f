import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContextOptions, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import type { Logger } from 'pino';
import type { ListenTlsConfig } from '../config/config.ts';
import type { ListenerKey } from '../config/listener-safety.ts';
import type { ChangeLog } from '../log/changes.ts';
import { createLogLimit } from '../log/log-limit.ts';
import { CERTIFICATE_FILES, CertificateError, type Certificates, readCertificates } from './certificates.ts';
import { watchExpiry } from './expiry.ts';
import { type FileWatch, watchFile } from './watch-file.ts';

/** Of a peer that connects and says nothing. Node's own timeout is two minutes. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** TLS of one listener, whose clients must show a certificate. */
export interface ServerTls {
  readonly listener: ListenerKey;
  /** From when to when the certificates in force count. */
  readonly validity: Certificates['validity'];
  /** For a server of node:tls or node:https. */
  readonly options: TlsOptions;
  /** Gives a server that was made with {@link options} new certificates when there are, and logs whom it turns away. */
  attach(server: Server): void;
  /**
   * Reads the files again. Never throws: what is wrong with them is logged, and the old certificates stay.
   * @returns what is wrong with them; null where they are in force
   */
  reload(): Promise<string | null>;
  close(): void;
}

export interface ServerTlsOptions {
  readonly listener: ListenerKey;
  readonly files: ListenTlsConfig;
  readonly changes: ChangeLog;
  readonly logger: Logger;
}

/**
 * Reads a listener's certificates, and reads them again whenever one of their files changes. Connections that are
 * there stay as they were made.
 * @throws CertificateError when they can't be used
 */
export async function startServerTls({ listener, files, changes, logger }: ServerTlsOptions): Promise<ServerTls> {
  const servers: Server[] = [];
  let current = await readCertificates(listener, files);
  const expiries = CERTIFICATE_FILES.map((file) => ({
    file,
    watch: watchExpiry(`${listener}_tls.${file}`, current.validity[file], changes),
  }));
  let isClosed = false;
  /** One after the other: what was read last is in force. */
  let reloads: Promise<string | null> = Promise.resolve(null);

  async function reloadOnce(): Promise<string | null> {
    if (isClosed) return null;
    try {
      const next = await readCertificates(listener, files);
      if (isClosed || isSame(next, current)) return null;
      current = next;
      for (const server of servers) server.setSecureContext(secureContext(current));
      const { validTo } = current.validity.cert_file;
      changes.info(`${listener}_tls: new certificates, valid until ${validTo.toISOString()}`);
      for (const { file, watch } of expiries) watch.renewed(current.validity[file]);
      return null;
    } catch (error) {
      const why = error instanceof CertificateError ? error.message : `${listener}_tls: ${String(error)}`;
      const message = `${why}; the old certificates stay`;
      if (!isClosed) changes.error(message);
      return message;
    }
  }

  function reload(): Promise<string | null> {
    reloads = reloads.then(reloadOnce);
    return reloads;
  }

  const watches: FileWatch[] = [];
  for (const file of new Set([files.certFile, files.keyFile, files.clientCaFile])) {
    const onPollingOnly = (why: string) => logger.warn(`${why}; the certificates are looked at every 2 s instead`);
    watches.push(await watchFile(file, { onChange: () => void reload(), onPollingOnly }));
  }
  // What changed between the reading and the watching.
  void reload();

  return {
    listener,
    get validity() {
      return current.validity;
    },
    get options() {
      return {
        ...secureContext(current),
        requestCert: true,
        rejectUnauthorized: true,
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      };
    },
    attach(server) {
      servers.push(server);
      logRefusals(server, listener, logger);
    },
    reload,
    close() {
      isClosed = true;
      for (const { watch } of expiries) watch.close();
      for (const watch of watches) watch.close();
    },
  };
}

/**
 * Does the handshake on each connection that it is given.
 * @param onSecure gets what comes out of it: a connection of a client whose certificate is right
 */
export function createHandshakes(tls: ServerTls, onSecure: (connection: TLSSocket) => void) {
  const server = createServer({ ...tls.options, ALPNProtocols: ['h2'] }, onSecure);
  tls.attach(server);
  return (connection: Socket): void => {
    server.emit('connection', connection);
  };
}

function secureContext({ cert, key, clientCa }: Certificates): SecureContextOptions {
  // No session is resumed: each connection is one whose certificate the CA in force has signed.
  return { cert, key, ca: clientCa, minVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET };
}

function isSame(a: Certificates, b: Certificates): boolean {
  return a.cert === b.cert && a.key === b.key && a.clientCa === b.clientCa;
}

function logRefusals(server: Server, listener: ListenerKey, logger: Logger): void {
  const mayLog = createLogLimit({
    lines: 10,
    perMs: 60_000,
    onLeftOut: (count) => logger.warn({ leftOut: count }, `${listener}: ${count} more connections were rejected`),
  });
  server.on('tlsClientError', (error, connection) => {
    // Of one that Node has ended, for its certificate, it is no longer known.
    const { remoteAddress } = connection;
    // After a time-out it is still there.
    connection.destroy();
    const why = whyRefused(error, connection);
    if (why === null || !mayLog()) return;
    const from = remoteAddress === undefined ? '' : ` from ${remoteAddress}`;
    logger.warn({ peer: remoteAddress }, `${listener}: a connection${from} was rejected: ${why}`);
  });
}

/** Null for one that only went away, as that of a port scanner. */
function whyRefused(error: Error, { authorizationError }: TLSSocket): string | null {
  const code = 'code' in error ? String(error.code) : error.message;
  // OpenSSL's own word; Node's types say that it is an error.
  if (authorizationError) return `its certificate is not taken (${String(authorizationError)})`;
  switch (code) {
    case 'ECONNRESET':
      return null;
    case 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE':
      return 'it shows no certificate';
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_HTTP_REQUEST':
      return 'it does not speak TLS';
    default:
      return code;
  }
}
