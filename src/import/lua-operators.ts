import { lengthOf, numberOf } from './lua-library.ts';
import { Api, CookieValue, Lost, Unknown, type Value } from './lua-values.ts';

const MAX_TEXT_LENGTH = 64 * 1024;

export function unary(operator: string, value: Value): Value {
  if (operator === '#') return lengthOf(value);
  if (value instanceof Unknown) return value;
  if (operator === 'not') return value === undefined || value === false;
  const number = numberOf(value);
  return operator === '-' && typeof number === 'number' ? -number : Unknown.from([value]);
}

/** @param onCompared is told of each cookie whose value is compared with a text */
export function binary(operator: string, left: Value, right: Value, onCompared: (cookie: string) => void): Value {
  if (operator === '==' || operator === '~=') {
    const isEqual = equal(left, right, onCompared);
    return typeof isEqual === 'boolean' ? isEqual === (operator === '==') : isEqual;
  }
  if (operator === '..') {
    const isText = [left, right].every((side) => typeof side === 'string' || typeof side === 'number');
    if (!isText) return Unknown.from([left, right]);
    const text = `${String(left)}${String(right)}`;
    // A loop that doubles a text would come to more than memory holds.
    if (text.length > MAX_TEXT_LENGTH) throw new Lost('a text grows too long');
    return text;
  }
  if (typeof left === 'string' && typeof right === 'string') {
    const inOrder = order(operator, left < right ? -1 : left > right ? 1 : 0);
    if (inOrder !== undefined) return inOrder;
  }
  const [a, b] = [numberOf(left), numberOf(right)];
  if (typeof a !== 'number' || typeof b !== 'number') return Unknown.from([left, right]);
  return order(operator, a - b) ?? compute(operator, a, b) ?? new Unknown(false);
}

/** A cookie's value is there, and equal to nothing but itself. */
function equal(left: Value, right: Value, onCompared: (cookie: string) => void): Value {
  if (left instanceof Unknown || right instanceof Unknown) return Unknown.from([left, right]);
  if (left instanceof CookieValue && right instanceof CookieValue) return left.cookie === right.cookie;
  const [cookie, other] = left instanceof CookieValue ? [left, right] : [right, left];
  if (cookie instanceof CookieValue) {
    if (typeof other === 'string' && other !== '') onCompared(cookie.cookie);
    return false;
  }
  if (left instanceof Api && right instanceof Api) return left.path === right.path;
  return left === right;
}

function order(operator: string, difference: number): boolean | undefined {
  switch (operator) {
    case '<':
      return difference < 0;
    case '<=':
      return difference <= 0;
    case '>':
      return difference > 0;
    case '>=':
      return difference >= 0;
    default:
      return undefined;
  }
}

function compute(operator: string, a: number, b: number): number | undefined {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '%':
      return a - Math.floor(a / b) * b;
    default:
      return undefined;
  }
}
