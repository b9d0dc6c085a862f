import { fileURLToPath } from 'node:url';
import {
  type ClientDuplexStream,
  credentials,
  Client as GrpcClient,
  type MethodDefinition,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { service as healthService } from 'grpc-health-check';
import { z } from 'zod';
import { waitUntil } from '../../lab/wait-until.ts';
import { type Address, formatAddress } from '../../src/config/address.ts';
import { type ClientFiles, HOST_NAME } from '../support/certificates.ts';

export const EXT_PROC = 'envoy.service.ext_proc.v3.ExternalProcessor';

/** `ProcessingMode.HeaderSendMode.SEND` */
const HEADER_SEND_MODE = 1;

const bytes = z.instanceof(Buffer).transform((buffer) => buffer.toString());
const headerOption = z
  .object({
    header: z.object({ key: z.string(), raw_value: bytes }),
    append: z.object({ value: z.boolean() }).nullish(),
  })
  .transform(({ header, append }) => ({ name: header.key, value: header.raw_value, append: append?.value === true }));
const mutation = z
  .object({ set_headers: z.array(headerOption).default([]), remove_headers: z.array(z.string()).default([]) })
  .prefault({});
const common = z.object({ header_mutation: mutation, clear_route_cache: z.boolean().default(false) }).prefault({});
const headersResponse = z.object({ response: common });
const label = z.object({ stringValue: z.string() }).transform((value) => value.stringValue);

const processingResponse = z.object({
  response: z.string(),
  request_headers: headersResponse.optional(),
  response_headers: headersResponse.optional(),
  immediate_response: z
    .object({ status: z.object({ code: z.int() }), headers: mutation, body: bytes, details: z.string() })
    .optional(),
  dynamic_metadata: z
    .object({
      fields: z.object({
        site_persistence: z.object({ structValue: z.object({ fields: z.object({ decision: label, owner: label }) }) }),
      }),
    })
    .transform((metadata) => metadata.fields.site_persistence.structValue.fields)
    .optional(),
  mode_override: z.object({ response_header_mode: z.int() }).optional(),
});

export interface SetHeader {
  readonly name: string;
  readonly value: string;
  readonly append: boolean;
}

/** One answer of the sidecar, as far as a test looks at it. */
export interface Reply {
  /** The phase that it answers, as in the proto file, or `immediate_response`. */
  readonly phase: string;
  readonly decision: string | undefined;
  readonly owner: string | undefined;
  readonly setHeaders: readonly SetHeader[];
  readonly removedHeaders: readonly string[];
  readonly clearsRouteCache: boolean;
  readonly wantsResponseHeaders: boolean;
  /** Of an immediate response. */
  readonly status: number | undefined;
  readonly body: string | undefined;
}

const PROTO_DIR = fileURLToPath(new URL('../../proto', import.meta.url));

function methodOf(service: unknown, name: string): MethodDefinition<object, object> {
  if (!isService(service)) throw new Error(`no service with ${name}`);
  const method = service[name];
  if (method === undefined) throw new Error(`no method ${name}`);
  return method;
}

function isService(value: unknown): value is Readonly<Record<string, MethodDefinition<object, object>>> {
  return typeof value === 'object' && value !== null && !('format' in value);
}

const processMethod = methodOf(
  loadSync('envoy/service/ext_proc/v3/external_processor.proto', {
    includeDirs: [PROTO_DIR],
    keepCase: true,
    oneofs: true,
  })[EXT_PROC],
  'Process',
);

/** A message as gRPC puts it on an HTTP/2 stream. */
export function grpcFrame(message: object): Buffer {
  const bytes = processMethod.requestSerialize(message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

/** A message of Envoy's in proto-loader's form, or bytes to be sent as they are. */
export type Sent = object | Buffer;

/** An Envoy's side of ext_proc. */
export class ExtProcClient {
  readonly #client: GrpcClient;

  constructor(listen: Address, tls?: Partial<ClientFiles>) {
    const { ca = null, key = null, cert = null } = tls ?? {};
    const channel = tls === undefined ? credentials.createInsecure() : credentials.createSsl(ca, key, cert);
    this.#client = new GrpcClient(formatAddress(listen), channel, {
      ...(tls === undefined ? {} : { 'grpc.ssl_target_name_override': HOST_NAME }),
      // A channel of its own: what happens to the connection of one test is not seen by another.
      'grpc.use_local_subchannel_pool': 1,
      // As Envoy's health checker.
      'grpc.primary_user_agent': 'Envoy/HC',
      'grpc.initial_reconnect_backoff_ms': 20,
      'grpc.max_reconnect_backoff_ms': 50,
    });
  }

  /** Opens the stream of one HTTP request. */
  open(): ExtProcStream {
    return new ExtProcStream(
      this.#client.makeBidiStreamRequest(
        processMethod.path,
        (message: Sent) => (Buffer.isBuffer(message) ? message : processMethod.requestSerialize(message)),
        processMethod.responseDeserialize,
      ),
    );
  }

  /** The one answer to a request that carries these headers; the server must end the call with it. */
  async decide(headers: Headers): Promise<Reply> {
    const stream = this.open();
    stream.send(requestHeaders(headers));
    const reply = await stream.reply(0);
    if (reply.wantsResponseHeaders) stream.end();
    const { code } = await stream.ended;
    if (code !== status.OK) throw new Error(`the call ended with ${status[code]}`);
    return reply;
  }

  /** What grpc.health.v1 says of a service, or the name of the gRPC status in its place. */
  async health(service = ''): Promise<string> {
    const check = methodOf(healthService, 'Check');
    return await new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        check.path,
        check.requestSerialize,
        check.responseDeserialize,
        { service },
        { deadline: Date.now() + 2_000 },
        (error, answer) => resolve(error === null ? healthOf(answer) : (status[error.code] ?? '')),
      );
    });
  }

  /** Everything that grpc.health.v1's Watch says of a service, as it comes. */
  watchHealth(service = ''): readonly string[] {
    const watch = methodOf(healthService, 'Watch');
    const said: string[] = [];
    const stream = this.#client.makeServerStreamRequest(watch.path, watch.requestSerialize, watch.responseDeserialize, {
      service,
    });
    stream.on('data', (answer: unknown) => said.push(healthOf(answer)));
    stream.on('error', () => {});
    return said;
  }

  close(): void {
    this.#client.close();
  }
}

/** One ext_proc stream. */
export class ExtProcStream {
  readonly replies: Reply[] = [];
  readonly ended: Promise<StatusObject>;
  readonly #call: ClientDuplexStream<Sent, object>;
  #hasEnded = false;

  constructor(call: ClientDuplexStream<Sent, object>) {
    this.#call = call;
    call.on('data', (message: unknown) => this.replies.push(readReply(message)));
    call.on('error', () => {});
    this.ended = new Promise((resolve) => {
      call.on('status', (end) => {
        this.#hasEnded = true;
        resolve(end);
      });
    });
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  send(...messages: readonly Sent[]): void {
    for (const message of messages) this.#call.write(message);
  }

  /** Says that nothing more comes from this side. */
  end(): void {
    this.#call.end();
  }

  cancel(): void {
    this.#call.cancel();
  }

  /** The reply with this index, once it is there. */
  async reply(index: number): Promise<Reply> {
    await waitUntil(() => this.replies.length > index || this.#hasEnded, {
      what: `reply ${index} of a call`,
      intervalMs: 2,
    });
    const reply = this.replies[index];
    if (reply === undefined) throw new Error(`the call ended after ${this.replies.length} replies`);
    return reply;
  }
}

/** Names and values; several values are several header lines. */
export type Headers = Readonly<Record<string, string | readonly string[]>>;

export function requestHeaders(headers: Headers): object {
  return { request_headers: { headers: headerMap({ ':method': 'GET', ':path': '/', ...headers }) } };
}

export function responseHeaders(headers: Headers): object {
  return { response_headers: { headers: headerMap(headers) } };
}

/** Envoy sends `raw_value`. */
function headerMap(headers: Headers): object {
  const entries = Object.entries(headers).flatMap(([key, values]) =>
    [values].flat().map((value) => ({ key, raw_value: Buffer.from(value) })),
  );
  return { headers: entries };
}

function healthOf(answer: unknown): string {
  return z.object({ status: z.string() }).parse(answer).status;
}

function readReply(message: unknown): Reply {
  const reply = processingResponse.parse(message);
  const response = reply.request_headers?.response ?? reply.response_headers?.response;
  const headers = response?.header_mutation ?? reply.immediate_response?.headers;
  return {
    phase: reply.response,
    decision: reply.dynamic_metadata?.decision,
    owner: reply.dynamic_metadata?.owner,
    setHeaders: headers?.set_headers ?? [],
    removedHeaders: headers?.remove_headers ?? [],
    clearsRouteCache: response?.clear_route_cache === true,
    wantsResponseHeaders: reply.mode_override?.response_header_mode === HEADER_SEND_MODE,
    status: reply.immediate_response?.status.code,
    body: reply.immediate_response?.body,
  };
}
