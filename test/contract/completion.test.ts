import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { commands, flagsIn, help } from './help.ts';

const run = promisify(execFile);

const COMPLETION = 'deploy/bash-completion/site-persistence';

/** What bash offers for the last of these words, without the package bash-completion. */
async function offered(...words: string[]): Promise<string[]> {
  const script = `
    compopt() { :; }  # only readline has it
    source ${COMPLETION}
    COMP_WORDS=(site-persistence "$@") COMP_CWORD=$#
    _site_persistence
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await run('bash', ['--norc', '-euc', script, 'bash', ...words]);
  return stdout.split('\n').filter((word) => word !== '');
}

test('the commands are those of --help', async () => {
  const all = [...(await commands()), 'help', ...flagsIn(await help())];
  expect((await offered('')).toSorted()).toEqual(all.toSorted());
  expect(await offered('und')).toEqual(['undrain']);
});

test.each(await commands())('the options of %s are those of its --help', async (command) => {
  expect((await offered(command, '--')).toSorted()).toEqual(flagsIn(await help(command)).toSorted());
});

test('the parts after --only are those that it takes', async () => {
  const choices = /--only <part>[^(]*\(choices: ([^)]+)\)/.exec(await help('envoy'))?.[1] ?? '';
  const parts = choices.split(',').map((part) => part.trim().slice(1, -1));
  expect(await offered('envoy', '--only', '')).toEqual(parts);
  expect(await offered('envoy', '--only', '=', 'cl')).toEqual(['clusters']);
});

test('files are offered where a file is to stand, and directories where a directory is', async () => {
  expect(await offered('check', '--config', 'package.j')).toEqual(['package.json']);
  expect(await offered('check', '--config', '=', 'package.j')).toEqual(['package.json']);
  expect(await offered('check', '--config', '=')).toEqual(expect.arrayContaining(['package.json']));
  expect(await offered('doctor', '--config-dump', 'package.j')).toEqual(['package.json']);
  expect(await offered('import', 'package.j')).toEqual(['package.json']);
  const directories = readdirSync('.', { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect((await offered('envoy', '--secrets-to', '')).toSorted()).toEqual(
    directories.map(({ name }) => name).toSorted(),
  );
});
