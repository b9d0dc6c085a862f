import fc from 'fast-check';
import { EVERY_KEY, MINIMAL } from './good-configs.ts';

const TOKENS = [
  ...['site', 'local_pool', 'remote_pools', 'health', 'cookie', 'east', '__proto__', 'constructor', '<<'],
  ...[
    ': ',
    ':',
    '- ',
    '? ',
    '\n',
    '\n  ',
    '\n    ',
    '\t',
    '\r',
    ' ',
    ', ',
    '#',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '|',
    '>',
    '\\',
  ],
  ...['&a ', '*a', '!', '!!str ', '!!set ', '!!binary ', '!<x> ', '%YAML 1.1\n', '---\n', '...\n', '@', '`', '=', '~'],
  ...['null', 'true', 'yes', '1.40', '0x1f', '0o7', '-.inf', '.nan', '1e999', '12:30:45', '2001-01-01', '9'.repeat(30)],
  ...['3s', '127.0.0.1:9002', 'unix:/x', '\0', '\x1b[31m', '\u2028', '\x85', '\ufeff', '\ud800', '\u{10ffff}'],
];

const token = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...TOKENS) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 5 }) },
);

/** Text of YAML's own words and this file's, in any order, alone or where a value belongs. */
export const yamlLikeText = fc
  .tuple(
    fc.constantFrom('', MINIMAL, `${MINIMAL}listen: `, `${MINIMAL}health: `, `${MINIMAL}envoy:\n  `),
    fc.array(token, { maxLength: 25 }),
  )
  .map(([start, tokens]) => start + tokens.join(''));

const change = fc.record({
  at: fc.nat({ max: EVERY_KEY.length }),
  remove: fc.oneof(fc.constant(0), fc.nat({ max: 30 })),
  insert: fc.oneof(token, fc.constant('')),
});

/** A good file with pieces taken out and put in. */
export const changedConfig = fc
  .tuple(fc.constantFrom(MINIMAL, EVERY_KEY), fc.array(change, { minLength: 1, maxLength: 4 }))
  .map(([text, changes]) =>
    changes.reduce<string>((now, { at, remove, insert }) => now.slice(0, at) + insert + now.slice(at + remove), text),
  );
