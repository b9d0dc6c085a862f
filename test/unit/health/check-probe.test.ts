import { expect, test } from 'vitest';
import { reasonOf } from '../../../src/health/check-probe.ts';

function errorOf(code: string, message: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { code });
}

test.each([
  [
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    '802CA7B4:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1590:SSL alert number 116\n',
    'TLS: tlsv13 alert certificate required',
  ],
  [
    'EPROTO',
    'write EPROTO 80FC4B26:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/openssl/ssl/record/ssl3_record.c:350:\n',
    'TLS: wrong version number',
  ],
  ['ERR_OSSL_PEM_NO_START_LINE', 'error:0480006C:PEM routines::no start line', 'TLS: no start line'],
  ['CERT_HAS_EXPIRED', 'certificate has expired', 'TLS: certificate has expired'],
])('reasonOf() an error of OpenSSL is what a person reads: %s', (code, message, reason) => {
  expect(reasonOf(errorOf(code, message))).toBe(reason);
});

test('reasonOf() a stream that was canceled is that of the session', () => {
  const refused = errorOf('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:1');
  const message = 'The pending stream has been canceled (caused by: connect ECONNREFUSED 127.0.0.1:1)';
  expect(reasonOf(errorOf('ERR_HTTP2_STREAM_CANCEL', message, refused))).toBe('connection refused');
});
