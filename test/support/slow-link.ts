import { fileURLToPath } from 'node:url';
import { ManagedProcess } from '../../lab/managed-process.ts';

const REFLECTOR = fileURLToPath(new URL('slow-link.py', import.meta.url));

export interface SlowLinkOptions {
  /** How many packets of a hundred are lost, in each direction. */
  readonly lossPercent: number;
  readonly roundTripMs: number;
}

export interface Packets {
  readonly carried: number;
  readonly lost: number;
}

export interface SlowLink {
  /** Over this address every TCP port of this machine is reached by the link; what listens there must do so on 0.0.0.0. */
  readonly address: string;
  /** Takes the link away. @returns what it has carried and lost in both directions */
  end(): Promise<Packets>;
}

/** A TUN device in the test's own network namespace, because not every kernel has `tc netem`. @throws Error where none may be made */
export async function startSlowLink({ lossPercent, roundTripMs }: SlowLinkOptions): Promise<SlowLink> {
  const reflector = new ManagedProcess({
    name: 'slow link',
    command: 'python3',
    args: [REFLECTOR, String(lossPercent), String(roundTripMs / 2)],
  });
  const ready = await reflector.waitForLine(/^ready /);
  return {
    address: ready.slice('ready '.length),
    end: async () => {
      await reflector.stop();
      const counts = /^carried (\d+) lost (\d+)$/.exec(reflector.lines.at(-1) ?? '');
      if (counts === null) throw reflector.failure('did not say what it carried');
      return { carried: Number(counts[1]), lost: Number(counts[2]) };
    },
  };
}
