import { pino } from 'pino';
import { expect, test } from 'vitest';
import { ChangeLog } from '../../../src/log/changes.ts';

test('the last 50 changes are kept, and of each application the last four at least', () => {
  const changes = new ChangeLog(pino({ enabled: false }));
  for (let change = 1; change <= 5; change++) changes.warn(`shop ${change}`, { application: 'shop' });
  changes.info('of all');
  for (let change = 1; change <= 100; change++) changes.info(`wiki ${change}`, { application: 'wiki' });
  const kept = changes.last.map(({ message }) => message);
  expect(kept.slice(0, 50)).toEqual(Array.from({ length: 50 }, (_, index) => `wiki ${100 - index}`));
  expect(kept.slice(50)).toEqual(['shop 5', 'shop 4', 'shop 3', 'shop 2']);
});

test('of a long message the beginning is kept', () => {
  const changes = new ChangeLog(pino({ enabled: false }));
  changes.info('x'.repeat(1_000));
  expect(changes.last[0]?.message).toBe(`${'x'.repeat(499)}…`);
});
