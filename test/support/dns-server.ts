import { createSocket, type RemoteInfo } from 'node:dgram';
import type { AddressInfo } from 'node:net';

/**
 * `silent`: no answer at all, as behind a firewall; `failing`: SERVFAIL; `half`: SERVFAIL for A records, while it still knows
 * that there is no AAAA record.
 */
export type DnsMood = 'well' | 'silent' | 'failing' | 'half';

export interface DnsServer {
  readonly port: number;
  mood: DnsMood;
  /** IPv4 addresses by name. */
  readonly addresses: Map<string, readonly string[]>;
  /** How many queries have come. */
  readonly queries: number;
  close(): void;
}

const HEADER_BYTES = 12;
const TYPE_A = 1;
const SERVFAIL = 2;
const NXDOMAIN = 3;
/** Short, so that the client asks again soon. */
const TTL_SECONDS = 1;

/** A name server for the tests, on loopback (RFC 1035). Of a name it has, other types than A have no record. */
export async function startDnsServer(): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const addresses = new Map<string, readonly string[]>();
  let mood: DnsMood = 'well';
  let queries = 0;
  socket.on('message', (query: Buffer, from: RemoteInfo) => {
    queries++;
    if (mood !== 'silent') socket.send(answer(query, mood, addresses), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return {
    port: (socket.address() as AddressInfo).port,
    addresses,
    get mood() {
      return mood;
    },
    set mood(next) {
      mood = next;
    },
    get queries() {
      return queries;
    },
    close: () => socket.close(),
  };
}

function answer(query: Buffer, mood: DnsMood, addresses: ReadonlyMap<string, readonly string[]>): Buffer {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const question = query.subarray(HEADER_BYTES, at + 5);
  const found = addresses.get(labels.join('.').toLowerCase());
  const isForA = query.readUInt16BE(at + 1) === TYPE_A;
  const isFailing = mood === 'failing' || (mood === 'half' && isForA);
  const records = found === undefined || !isForA || isFailing ? [] : found;
  const header = Buffer.from(query.subarray(0, HEADER_BYTES));
  const code = isFailing ? SERVFAIL : found === undefined ? NXDOMAIN : 0;
  header.writeUInt16BE(0x8180 | code, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  header.writeUInt32BE(0, 8);
  return Buffer.concat([header, question, ...records.map(recordOf)]);
}

function recordOf(address: string): Buffer {
  const record = Buffer.alloc(16);
  // A pointer to the question's name.
  record.writeUInt16BE(0xc000 | HEADER_BYTES, 0);
  record.writeUInt16BE(TYPE_A, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(TTL_SECONDS, 6);
  record.writeUInt16BE(4, 10);
  record.set(address.split('.').map(Number), 12);
  return record;
}
