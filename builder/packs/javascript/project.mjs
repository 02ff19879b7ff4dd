// The project that is built: its package.json, its files, and what is said about them.

import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** The project is at fault; the message says how, with the way out. */
export class Wrong extends Error {}

/** For people, as the build goes on. */
export const say = (line) => console.log(line);

/** A module of the folder of tools. */
export const tool = createRequire(join(process.env.GILLIAM_JAVASCRIPT, 'tools.cjs'));

/** The Node.js whose language and modules programs find: what `engines.node` is held against. */
export const NODE_VERSION = '22.20.0';

export const isFile = (path) => existsSync(path) && statSync(path).isFile();

/** package.json, or nothing where there is none. */
export function read() {
  if (!isFile('package.json')) return undefined;
  let manifest;
  try {
    manifest = JSON.parse(readFileSync('package.json', 'utf8'));
  } catch (error) {
    throw new Wrong(`package.json: ${error.message}`);
  }
  if (manifest === null || typeof manifest !== 'object' || Array.isArray(manifest)) {
    throw new Wrong('package.json holds no object');
  }
  checkEngine(manifest.engines?.node);
  return manifest;
}

function checkEngine(range) {
  if (range === undefined) return;
  const semver = tool('semver');
  if (!semver.validRange(range))
    throw new Wrong(`package.json: engines.node is ${JSON.stringify(range)}, which is no range of versions`);
  if (!semver.satisfies(NODE_VERSION, range)) {
    throw new Wrong(
      `package.json: engines.node asks for ${range}; programs run on the JavaScript of Node.js ${NODE_VERSION.split('.')[0]}. ` +
        `Let the range have ${NODE_VERSION}, or leave it out`,
    );
  }
}
