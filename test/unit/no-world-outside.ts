import { ChildProcess } from 'node:child_process';
import { Socket as DatagramSocket } from 'node:dgram';
import { Server, Socket } from 'node:net';

/** Before each file of unit tests: whoever opens a socket or starts a process belongs to another folder. */

function refuse(what: string) {
  return (): never => {
    throw new Error(`a unit test ${what}: that is one for test/integration`);
  };
}

Server.prototype.listen = refuse('listens');
Socket.prototype.connect = refuse('connects');
DatagramSocket.prototype.bind = refuse('binds a socket');
// @types/node has no `spawn`, through which each way to start a process goes but the synchronous ones.
Object.assign(ChildProcess.prototype, { spawn: refuse('starts a process') });
