// The packages that a project depends on: there already, kept from an earlier build, or installed from the registry.
//
// Invariant: no script of a package is run; those of the project are run by name alone.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Wrong, isFile, say } from './project.mjs';

const { GILLIAM_CACHE: cache, GILLIAM_NETWORK: network } = process.env;
const LOCKS = ['package-lock.json', 'npm-shrinkwrap.json'];
/** Sets of packages that are kept for later builds of this app. */
const KEPT_MAX = 3;
const FLAGS = [
  '--ignore-scripts',
  '--no-audit',
  '--no-fund',
  '--no-update-notifier',
  '--no-progress',
  '--loglevel=error',
];

/** Makes node_modules what package.json asks for. */
export function install(manifest) {
  const asked = ['dependencies', 'devDependencies', 'optionalDependencies'].some(
    (kind) => Object.keys(manifest?.[kind] ?? {}).length,
  );
  if (!asked || existsSync('node_modules')) return;
  const lock = LOCKS.find(isFile);
  const key = createHash('sha256');
  for (const file of ['package.json', '.npmrc', lock].filter((file) => file && isFile(file)))
    key.update(`${file}\0`).update(readFileSync(file)).update('\0');
  const kept = join(cache, `packages-${key.update(process.version).digest('hex').slice(0, 16)}`);
  if (lock && existsSync(kept)) {
    symlinkSync(join(kept, 'node_modules'), 'node_modules');
    say(`node_modules: as in the last build, ${lock} is the same`);
    return;
  }
  fromRegistry(manifest, lock);
  if (lock && isWhole(lock)) keep(kept);
}

function fromRegistry(manifest, lock) {
  const names = Object.keys(manifest.dependencies ?? manifest.devDependencies ?? {})
    .slice(0, 5)
    .join(', ');
  if (!network) {
    throw new Wrong(
      `package.json depends on packages (${names}), and builds on this server have no network.\n` +
        'Add node_modules to the project, or have the operator allow the registry',
    );
  }
  if (!lock)
    say(
      ' !     there is no package-lock.json: versions are whatever the registry has today. Run npm install and commit the file',
    );
  const verb = lock ? ['ci'] : ['install', '--no-package-lock'];
  say(`npm ${verb[0]}`);
  const { status } = spawnSync('npm', [...verb, ...FLAGS, `--cache=${join(cache, 'npm')}`], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) throw new Wrong(`npm ${verb[0]} failed`);
}

/** Packages that lie in the project itself are linked from node_modules, which then cannot be moved. */
function isWhole(lock) {
  return !readFileSync(lock, 'utf8').includes('"link": true') && existsSync('node_modules');
}

function keep(kept) {
  mkdirSync(kept, { recursive: true });
  try {
    renameSync('node_modules', join(kept, 'node_modules'));
  } catch {
    // Another device: the next build installs again.
    rmSync(kept, { recursive: true });
    return;
  }
  symlinkSync(join(kept, 'node_modules'), 'node_modules');
  const sets = readdirSync(cache).filter(
    (name) => name.startsWith('packages-') && join(cache, name) !== kept,
  );
  sets.slice(KEPT_MAX - 1).forEach((name) => rmSync(join(cache, name), { recursive: true, force: true }));
}

/** Runs a script of package.json. */
export function runScript(name) {
  say(`npm run ${name}`);
  const { status } = spawnSync('npm', ['run', '--silent', name], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) throw new Wrong(`npm run ${name} failed`);
}
