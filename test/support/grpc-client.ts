import { Client, credentials, type Metadata, status } from '@grpc/grpc-js';

/** How a call of the echo ended. */
export interface GrpcResult {
  /** `OK`, or the name of another status. */
  readonly status: string;
  readonly messages: readonly string[];
  /** `east/app-1`; null where no server answered. */
  readonly server: string | null;
  readonly hop: string | null;
  /** The Set-Cookie lines of the answer. */
  readonly setCookies: readonly string[];
}

const asIs = (bytes: Buffer) => bytes;

/** Calls the echo of the application's servers by gRPC. */
export class GrpcClient {
  readonly #client: Client;
  readonly #metadata: () => Metadata;

  constructor(edge: string, metadata: () => Metadata) {
    this.#client = new Client(edge.replace('http://', ''), credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#metadata = metadata;
  }

  /** Says each of these words when the one before has come back. One word is a unary call. */
  async say(...words: readonly string[]): Promise<GrpcResult> {
    const call = this.#client.makeBidiStreamRequest('/lab.Echo/Say', asIs, asIs, this.#metadata(), {
      deadline: Date.now() + 20_000,
    });
    const messages: string[] = [];
    let from: Metadata | null = null;
    return await new Promise((resolve) => {
      call.on('metadata', (metadata) => {
        from = metadata;
      });
      call.on('data', (message: Buffer) => {
        messages.push(message.toString());
        const next = words[messages.length];
        if (next === undefined) call.end();
        else call.write(Buffer.from(next));
      });
      call.on('error', () => {});
      call.on('status', ({ code, metadata }) => {
        const answer: Metadata = from ?? metadata;
        const texts = (name: string) => answer.get(name).map(String);
        const [site] = texts('site');
        resolve({
          status: status[code] ?? String(code),
          messages,
          server: site === undefined ? null : `${site}/${texts('server')[0]}`,
          hop: texts('hop')[0] ?? null,
          setCookies: texts('set-cookie'),
        });
      });
      call.write(Buffer.from(words[0] ?? ''));
    });
  }

  close(): void {
    this.#client.close();
  }
}
