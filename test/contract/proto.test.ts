import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonObject,
  type JsonValue,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { type AnyDefinition, loadSync, type MethodDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import { beforeAll, describe, expect, test } from 'vitest';
import { type EnvoyDescriptors, readEnvoyDescriptors } from './envoy-descriptors.ts';
import { type ProtoShape, shapeOf } from './proto-shape.ts';

const ENVOY_VERSIONS = ['1.36.4', '1.38.3', '1.40.0'];

const SERVICE = 'envoy.service.ext_proc.v3.ExternalProcessor';
const REQUEST = 'envoy.service.ext_proc.v3.ProcessingRequest';
const RESPONSE = 'envoy.service.ext_proc.v3.ProcessingResponse';

const PROTO_DIR = fileURLToPath(new URL('../../proto', import.meta.url));
const PROTO_FILES = readdirSync(PROTO_DIR, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.proto'));

const processMethod = loadProcessMethod();
const ourShape = shapeOfOurs(processMethod);

/** A message with every field set, as each side spells it; see `Spelling`. */
interface Sample {
  readonly title: string;
  readonly ours: JsonObject;
  readonly envoys: JsonObject;
}

/**
 * Proto-loader's objects are the messages just as the proto files define them. @bufbuild/protobuf reads and writes the
 * JSON mapping of Protocol Buffers, which has shorthands for wrappers and for Struct; all else is spelled the same.
 */
interface Spelling {
  readonly yes: JsonValue;
  readonly metadata: JsonObject;
}

const OUR_SPELLING: Spelling = {
  yes: { value: true },
  metadata: {
    fields: {
      'site.persistence': {
        structValue: {
          fields: {
            site: { stringValue: 'berlin' },
            weight: { numberValue: 0.25 },
            fallback: { boolValue: true },
            previous: { nullValue: 'NULL_VALUE' },
            tried: { listValue: { values: [{ stringValue: 'paris' }, { numberValue: 2 }] } },
          },
        },
      },
    },
  },
};

const ENVOYS_SPELLING: Spelling = {
  yes: true,
  metadata: {
    'site.persistence': { site: 'berlin', weight: 0.25, fallback: true, previous: null, tried: ['paris', 2] },
  },
};

const HEADER_MAP = {
  headers: [
    { key: ':path', value: '/caf\u00e9?a=b' },
    { key: 'cookie', raw_value: base64('site=berlin; \xff\x00') },
    { key: 'x-both', value: 'text', raw_value: base64('bytes') },
  ],
};

const REQUESTS = samples((): Record<string, JsonObject> => {
  const headers = { headers: HEADER_MAP, end_of_stream: true };
  const body = { body: base64('\x00body\xff'), end_of_stream: true };
  const trailers = { trailers: HEADER_MAP };
  return {
    request_headers: { request_headers: headers },
    response_headers: { response_headers: headers },
    request_body: { request_body: body },
    response_body: { response_body: body },
    request_trailers: { request_trailers: trailers },
    response_trailers: { response_trailers: trailers },
  };
});

const RESPONSES = samples(({ yes, metadata }): Record<string, JsonObject> => {
  const mutation = {
    set_headers: [
      { header: { key: 'x-site', value: 'berlin', raw_value: base64('berlin') }, append: yes },
      { header: { key: 'set-cookie', raw_value: base64('site=berlin') } },
    ],
    remove_headers: ['x-one', 'x-two'],
  };
  const common = { response: { header_mutation: mutation, clear_route_cache: true } };
  const immediate = {
    status: { code: 'ServiceUnavailable' },
    headers: mutation,
    body: base64('no site \xff'),
    details: 'no_site',
  };
  const rest = { dynamic_metadata: metadata, mode_override: { response_header_mode: 'SKIP' } };
  return {
    request_headers: { request_headers: common, ...rest },
    response_headers: { response_headers: common, ...rest },
    request_body: { request_body: common, ...rest },
    response_body: { response_body: common, ...rest },
    request_trailers: { request_trailers: {}, ...rest },
    response_trailers: { response_trailers: {}, ...rest },
    immediate_response: { immediate_response: immediate, ...rest },
  };
});

/** What an Envoy may send along with any request and the sidecar has no definition for. */
const UNKNOWN_TO_US: JsonObject = {
  metadata_context: { filter_metadata: { 'envoy.lb': { site: 'paris' } } },
  attributes: { 'envoy.filters.http.ext_proc': { 'request.path': '/', 'source.port': 4711 } },
  observability_mode: true,
  protocol_config: {
    request_body_mode: 'FULL_DUPLEX_STREAMED',
    response_body_mode: 'BUFFERED_PARTIAL',
    send_body_without_waiting_for_header_response: true,
  },
};

test('the samples set every field of every message, so that a new field gets a round trip too', () => {
  const set = [
    ...REQUESTS.flatMap(({ ours }) => fieldsSet(REQUEST, ours)),
    ...RESPONSES.flatMap(({ ours }) => fieldsSet(RESPONSE, ours)),
  ];
  const defined = [...ourShape.messages].flatMap(([message, fields]) =>
    Object.keys(fields).map((field) => `${message}.${field}`),
  );
  expect([...new Set(set)].sort()).toEqual(defined.sort());
});

describe.each(ENVOY_VERSIONS)('Envoy %s', (version) => {
  let envoy: EnvoyDescriptors;
  let envoyShape: ProtoShape;

  beforeAll(async () => {
    envoy = await readEnvoyDescriptors(version, PROTO_FILES);
    envoyShape = shapeOf(envoy.files);
  }, 300_000);

  const messageOf = (name: string): DescMessage => {
    const message = envoy.registry.getMessage(name);
    if (message === undefined) throw new Error(`Envoy ${version} has no message ${name}`);
    return message;
  };
  const encodeAsEnvoy = (name: string, json: JsonObject): Buffer =>
    Buffer.from(toBinary(messageOf(name), fromJson(messageOf(name), json)));
  const decodeAsEnvoy = (name: string, bytes: Buffer): JsonValue =>
    toJson(messageOf(name), fromBinary(messageOf(name), bytes), { useProtoFieldName: true });

  describe('defines what our proto files define', () => {
    test.each([...ourShape.messages])('message %s', (name, fields) => {
      expect(sameKeys(envoyShape.messages.get(name), fields)).toEqual(fields);
    });

    test.each([...ourShape.enums])('enum %s', (name, values) => {
      expect(sameKeys(envoyShape.enums.get(name), values)).toEqual(values);
    });

    test.each([...ourShape.services])('service %s', (name, methods) => {
      expect(sameKeys(envoyShape.services.get(name), methods)).toEqual(methods);
    });

    test('the method that gRPC calls', () => {
      const { parent, name, methodKind } = envoy.registry.getService(SERVICE)?.method.process ?? {};
      expect(`/${parent?.typeName}/${name}`).toBe(processMethod.path);
      expect(methodKind).toBe('bidi_streaming');
      expect(processMethod).toMatchObject({ requestStream: true, responseStream: true });
    });
  });

  describe('sends requests that we read, and reads those we write', () => {
    test.each(REQUESTS)('$title', ({ ours, envoys }) => {
      expect(processMethod.requestDeserialize(encodeAsEnvoy(REQUEST, envoys))).toEqual(ours);
      expect(decodeAsEnvoy(REQUEST, processMethod.requestSerialize(ours))).toEqual(envoys);
    });

    test.each(REQUESTS)('$title, with fields that we do not know', ({ ours, envoys }) => {
      const bytes = encodeAsEnvoy(REQUEST, { ...envoys, ...UNKNOWN_TO_US });
      expect(processMethod.requestDeserialize(bytes)).toEqual(ours);
    });
  });

  describe('reads responses that we write, and sends those we read', () => {
    test.each(RESPONSES)('$title', ({ ours, envoys }) => {
      expect(decodeAsEnvoy(RESPONSE, processMethod.responseSerialize(ours))).toEqual(envoys);
      expect(processMethod.responseDeserialize(encodeAsEnvoy(RESPONSE, envoys))).toEqual(ours);
    });
  });
});

/** Loaded as gRPC loads it, with values spelled as in JSON so that the samples need not be written twice. */
function loadProcessMethod(): MethodDefinition<object, object> {
  const definitions = loadSync(PROTO_FILES, {
    includeDirs: [PROTO_DIR],
    keepCase: true,
    enums: String,
    longs: String,
    bytes: String,
  });
  const service = definitions[SERVICE];
  const method = service !== undefined && isService(service) ? service.Process : undefined;
  if (method === undefined) throw new Error(`proto/ has no ${SERVICE}.Process`);
  return method;
}

/** Messages and enums have a format; what a service has are its methods. */
function isService(definition: AnyDefinition): definition is ServiceDefinition {
  return typeof definition.format !== 'string';
}

/** Without google.protobuf, which protobufjs brings along and which is not ours. */
function shapeOfOurs(method: MethodDefinition<object, object>): ProtoShape {
  const files = method.requestType.fileDescriptorProtos.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  const { messages, enums, services } = shapeOf(files);
  const isOurs = ([name]: readonly [string, unknown]): boolean => !name.startsWith('google.protobuf.');
  return {
    messages: new Map([...messages].filter(isOurs)),
    enums: new Map([...enums].filter(isOurs)),
    services: new Map([...services].filter(isOurs)),
  };
}

function samples(build: (spelling: Spelling) => Record<string, JsonObject>): Sample[] {
  const envoys = build(ENVOYS_SPELLING);
  return Object.entries(build(OUR_SPELLING)).map(([title, ours]) => ({ title, ours, envoys: envoys[title] ?? {} }));
}

/** Each character of `latin1` is one byte, so that bytes which are no UTF-8 can be written down. */
function base64(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('base64');
}

/** The part of Envoy's definition that ours is to be equal to; what Envoy does not have is missing in it. */
function sameKeys<T>(theirs: Readonly<Record<string, T>> | undefined, ours: object): Record<string, T> | undefined {
  return theirs && Object.fromEntries(Object.entries(theirs).filter(([key]) => Object.hasOwn(ours, key)));
}

/** `message.field` for the fields that are set in `value` and, in turn, in the messages inside it. */
function fieldsSet(message: string, value: JsonValue): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => fieldsSet(message, item));
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([field, inner]) => {
    const type = ourShape.messages.get(message)?.[field]?.typeName ?? '';
    return [`${message}.${field}`, ...(ourShape.messages.has(type) ? fieldsSet(type, inner) : [])];
  });
}
