import { expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { readSnapshot } from '../../../src/doctor/envoy-snapshot.ts';
import { CHECK_GROUPS, examine } from '../../../src/doctor/examine.ts';
import { DOCTOR_CASES } from '../../support/doctor-cases.ts';
import { type Changes, DoctorFile, type Examined } from '../../support/doctor-file.ts';
import { roundTrip } from '../../support/doctor-round-trip.ts';
import { answersOf, aroundOf, fakeEnvoyOf } from './fake-envoy.ts';

const FILE = new DoctorFile('1.40.0', {
  ...{ edge: 11_001, second: 11_002, admin: 11_003, nobody: 11_004 },
  ...{ app1: 11_005, app2: 11_006, west: 11_007, sidecar1: 11_008, sidecar2: 11_009, ops: 11_010 },
});

/** Like the command, of an Envoy with these changes where all hosts are up. */
function examineFake(changes: Changes): Examined {
  const config = parseConfig(FILE.examinedText(changes), 'site.yaml');
  const snapshot = readSnapshot(answersOf(fakeEnvoyOf(FILE.bootstrap(changes))));
  const findings = examine(config, snapshot, aroundOf(config));
  return { code: findings.some(({ mark }) => mark === 'wrong') ? 1 : 0, findings };
}

// The others have tests of their own on real Envoys: test/servers, and doctor-virtual-hosts.test.ts.
const IN_TABLE = CHECK_GROUPS.map(({ name }) => name).filter((name) => !['Protocols', 'Virtual hosts'].includes(name));

test('of each group of checks, a real Envoy takes a fix', () => {
  const fixed = DOCTOR_CASES.filter(({ real, at }) => real !== undefined && at !== undefined);
  const groups = fixed.map((each) => {
    const found = examineFake(each).findings.find(({ check, mark }) => `${check}: ${mark}` === each.finds[0]);
    return found?.group;
  });
  expect(groups).toEqual(expect.arrayContaining(IN_TABLE));
});

const ON_SNAPSHOTS = DOCTOR_CASES.filter(({ real }) => real !== 'only');

test.each(ON_SNAPSHOTS.map((each) => [each.name, each] as const))('%s', async (_, each) => {
  await roundTrip(each, examineFake);
});
