import { type Logger, pino } from 'pino';

const LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];

/**
 * The program's log, on stdout: JSON, or readable lines where stdout is a terminal. Written synchronously: there are
 * few lines, and the last one before an end must not be lost.
 * @param env `LOG_LEVEL` sets the level (default `info`)
 * @throws Error when LOG_LEVEL names no level
 */
export async function createLogger(env: NodeJS.ProcessEnv, isTerminal: boolean): Promise<Logger> {
  const level = (env.LOG_LEVEL ?? '').toLowerCase() || 'info';
  if (!LEVELS.includes(level)) {
    throw new Error(`LOG_LEVEL is ${JSON.stringify(level)}: it must be one of ${LEVELS.join(', ')}`);
  }
  const options = { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime };
  if (!isTerminal) return pino(options, pino.destination({ fd: 1, sync: true }));
  const { default: pretty } = await import('pino-pretty');
  return pino(
    options,
    pretty({ destination: 1, sync: true, singleLine: true, ignore: 'pid', translateTime: 'SYS:HH:MM:ss.l' }),
  );
}
