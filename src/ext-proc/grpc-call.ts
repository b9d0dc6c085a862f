import { type ServerDuplexStream, status } from '@grpc/grpc-js';
import type { ProcessStream, ReplyStream } from './process.ts';

/**
 * Serves one call as grpc-js hands it over: what is not a plain call (see `isPlainCall`), such as one with compressed
 * messages, which Envoy sends where it is told to.
 * @param onError told of a call that failed here, which is ended with INTERNAL
 */
export function serveGrpcCall(
  call: ServerDuplexStream<Buffer, Buffer>,
  open: (replies: ReplyStream) => ProcessStream,
  onError: (error: unknown) => void,
): void {
  const process = open({ write: (frame) => void call.write(frame), end: () => void call.end() });
  call.on('data', (message: Buffer) => {
    try {
      process.receive(message);
    } catch (error) {
      call.destroy(Object.assign(new Error('a decision failed'), { code: status.INTERNAL }));
      onError(error);
    }
  });
  call.on('end', () => process.halfClose());
  call.on('cancelled', () => process.cancel());
  call.on('error', () => process.cancel());
}
