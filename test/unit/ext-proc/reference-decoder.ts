import { z } from 'zod';
import type { RequestFacts } from '../../../src/decision/decide.ts';
import { LOCAL, LOCAL_ALSO, type Policy } from '../../../src/decision/policy.ts';
import type { PhaseMessage } from '../../../src/ext-proc/request.ts';
import { loadExtProcMethod } from '../../../src/ext-proc/service.ts';

interface Header {
  readonly name: string;
  readonly value: string;
}

const bytes = z.instanceof(Buffer).default(Buffer.alloc(0));

const headerValue = z
  .object({ key: z.string().default(''), value: z.string().default(''), raw_value: bytes })
  .transform(({ key, value, raw_value }): Header => {
    return { name: key, value: raw_value.length > 0 ? raw_value.toString('latin1') : value };
  });

const httpHeaders = z
  .object({ headers: z.object({ headers: z.array(headerValue).default([]) }).prefault({}) })
  .transform((message) => message.headers.headers);

/** What proto-loader makes of a `ProcessingRequest`, as far as anybody wants to know. */
const processingRequest = z.object({
  request_headers: httpHeaders.optional(),
  response_headers: httpHeaders.optional(),
  request_body: z.object({}).optional(),
  response_body: z.object({}).optional(),
  request_trailers: z.object({}).optional(),
  response_trailers: z.object({}).optional(),
});

const BODIES_AND_TRAILERS = {
  request_body: 'requestBody',
  response_body: 'responseBody',
  request_trailers: 'requestTrailers',
  response_trailers: 'responseTrailers',
} as const;

/**
 * The decoder to compare ours with: proto-loader's, and plain strings for the rest. Throws where proto-loader throws.
 * @param statusUri the path of the status URI
 */
export function createReferenceDecoder(policy: Policy, statusUri: string): (bytes: Buffer) => PhaseMessage {
  const { requestDeserialize } = loadExtProcMethod();

  return function decodeRequest(bytes) {
    const message = processingRequest.parse(requestDeserialize(bytes));
    if (message.request_headers !== undefined) {
      const headers = message.request_headers;
      const isTwice = isLocalCookieTwice(headers);
      return { phase: 'requestHeaders', application: 0, ...factsOf(headers), isLocalCookieTwice: isTwice };
    }
    if (message.response_headers !== undefined) {
      return { phase: 'responseHeaders', isUnserved: isUnserved(message.response_headers) };
    }
    for (const phase of ['request_body', 'response_body', 'request_trailers', 'response_trailers'] as const) {
      if (message[phase] !== undefined) return { phase: BODIES_AND_TRAILERS[phase] };
    }
    return { phase: 'malformed' };
  };

  function factsOf(headers: readonly Header[]): RequestFacts {
    const cookies = new Set(valuesOf(headers, 'cookie').flatMap(cookieNames));
    return {
      isStatusUri: pathOnly(valuesOf(headers, ':path').at(-1) ?? '') === statusUri,
      hasHop: valuesOf(headers, 'x-site-hop').length > 0,
      cookies: policy.sites.reduce((sites, { cookieNames: names }, index) => {
        const isCarried = names.some((name) => cookies.has(name));
        const [own = '', ...others] = names;
        const isUnderBoth = cookies.has(own) && others.some((name) => cookies.has(name));
        return sites + (isCarried ? 2 ** index : 0) + (index === LOCAL && isUnderBoth ? LOCAL_ALSO : 0);
      }, 0),
    };
  }

  function isLocalCookieTwice(headers: readonly Header[]): boolean {
    const names = valuesOf(headers, 'cookie').flatMap(cookieNames);
    return names.filter((name) => name === policy.sites[0]?.cookieNames[0]).length > 1;
  }
}

function isUnserved(headers: readonly Header[]): boolean {
  const cameFromUpstream = valuesOf(headers, 'x-envoy-upstream-service-time').length > 0;
  const isRefusal = valuesOf(headers, 'x-site-refused').length > 0;
  const isError =
    /^[45]/.test(valuesOf(headers, ':status').at(-1) ?? '') || valuesOf(headers, 'grpc-status').length > 0;
  const isElsewhere = (valuesOf(headers, 'proxy-connection').at(-1) ?? 'served-here') !== 'served-here';
  return isRefusal || isElsewhere || (isError && !cameFromUpstream);
}

function valuesOf(headers: readonly Header[], name: string): string[] {
  return headers.filter((header) => header.name === name).map((header) => header.value);
}

function cookieNames(header: string): string[] {
  const pairs = header.split(';').filter((pair) => pair.includes('='));
  return pairs.map((pair) => pair.slice(0, pair.indexOf('=')).replace(/^[ \t]+/, ''));
}

function pathOnly(path: string): string {
  const [beforeQuery = ''] = path.split(/[?#]/, 1);
  return beforeQuery.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
