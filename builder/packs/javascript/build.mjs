// From a Procfile entry's words to a component.
//
// In flow the words, the project in the working folder and the tools; out flow the component and the arguments of
// its process. Nothing of the project runs here but its own `npm run build`, where a start script needs it.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundle } from './bundle.mjs';
import { parse } from './command.mjs';
import { install, runScript } from './dependencies.mjs';
import { Exit, start } from './engine.mjs';
import { snapshot } from './module.mjs';
import { Wrong, read as readPackage, say } from './project.mjs';

const { GILLIAM_PROCESS, GILLIAM_OUT, GILLIAM_ARGS, GILLIAM_JAVASCRIPT: tools } = process.env;
/** The exit code that says: the project is at fault. */
const EXIT_PROJECT = 65;

/** The bundle's own name in the engine, and in its messages. */
const NAME = 'app.js';

/** The engine refuses what it cannot read, with its own words. */
async function begin(engine, given) {
  try {
    return await start(engine, given);
  } catch (error) {
    if (error instanceof Exit && error.printed)
      throw new Wrong(`the program cannot be loaded:\n${error.printed.trim()}`);
    throw error;
  }
}

async function component(world, text) {
  const part = (name) => readFileSync(join(tools, `${world}.${name}`));
  const engine = await WebAssembly.compile(part('engine.wasm'));
  const exports = await begin(engine, {
    files: { 'initializer.js': part('bindings.js'), [NAME]: text },
    environment: JSON.parse(part('environment.json')),
    input: `--initializer-script-path /initializer.js --strip-path-prefix / ${NAME}`,
  });
  const made = snapshot(part('component.wasm'), exports);
  // It answers on the instance that was copied, which is not used again.
  if (exports.check_init() !== 0) throw new Error('the engine does not find what the program exports');
  return made;
}

async function main(words) {
  const manifest = readPackage();
  const command = parse(words, manifest);
  install(manifest);
  command.before.forEach((script) => runScript(script));
  const script = command.locate();
  const bundled = await bundle({ script, command, manifest, isWeb: GILLIAM_PROCESS === 'web' });
  writeFileSync(GILLIAM_OUT, await component(bundled.world, bundled.text));
  if (GILLIAM_ARGS) writeFileSync(GILLIAM_ARGS, [script, ...command.args, ''].join('\n'));
  say(`${script}: ${(bundled.text.length / 1000).toFixed(1)} kB of JavaScript from ${bundled.inputs} files`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof Wrong) {
    console.error(error.message);
    process.exit(EXIT_PROJECT);
  }
  throw error;
}
