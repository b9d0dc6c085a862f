import { expect, test } from 'vitest';
import { OpenCalls } from '../../../src/ext-proc/open-calls.ts';

function createCalls(most: number) {
  let crowded = 0;
  const calls = new OpenCalls(most, () => crowded++);
  const brokenOff: string[] = [];
  const open = (name: string) => {
    const call = { reset: () => void brokenOff.push(name) };
    const place = calls.add(call);
    return { close: () => calls.remove(call, place) };
  };
  return { open, brokenOff, crowded: () => crowded };
}

test('as many as there are places stay open', () => {
  const { open, brokenOff } = createCalls(20);
  for (let count = 0; count < 20; count++) open(`call ${count}`);
  expect(brokenOff).toEqual([]);
});

test('one more breaks off an old one, and says so', () => {
  const { open, brokenOff, crowded } = createCalls(20);
  for (let count = 0; count < 22; count++) open(`call ${count}`);
  expect(brokenOff).toHaveLength(2);
  expect(crowded()).toBe(2);
  expect(brokenOff).not.toContain('call 20');
  expect(brokenOff).not.toContain('call 21');
});

test('calls that come and go leave one that stays alone, however many there are', () => {
  const { open, brokenOff } = createCalls(20);
  open('stays');
  for (let count = 0; count < 1_000; count++) open(`call ${count}`).close();
  expect(brokenOff).toEqual([]);
});

test('the end of a call that was broken off does not end the one in its place', () => {
  const { open, brokenOff } = createCalls(1);
  const first = open('first');
  open('second');
  first.close();
  open('third');
  expect(brokenOff).toEqual(['first', 'second']);
});
