// Makes the folder of tools: packages of the registry, checked by their digests, and an engine for each world.
//
// An engine is three files: the one that runs while a program is built, the component that the program becomes,
// and what the first is told. Packages that only this needs are not kept.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { exposed, without } from './module.mjs';

const { GILLIAM_PACK: pack, GILLIAM_WIT: wit } = process.env;
const work = process.argv[2];
const modules = join(work, 'made/node_modules');
/** What only this script needs. */
const PASSING = '@bytecodealliance';
const WIT_PACKAGES = ['cli', 'clocks', 'filesystem', 'http', 'io', 'random', 'sockets'];
const ALL = ['stdio', 'random', 'clocks', 'http'];
const FEATURES = { web: [...ALL, 'fetch-event'], job: ALL, command: ALL };

function fetchPackages() {
  const other = process.arch === 'x64' ? 'arm64' : 'x64';
  const packages = readFileSync(join(pack, 'packages'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([name]) => name !== `@esbuild/linux-${other}`);
  const specs = packages.map(([name, version]) => `${name}@${version}`);
  console.error(`Fetching ${specs.join(', ')}`);
  const report = execFileSync('npm', ['pack', '--silent', '--json', '--ignore-scripts', ...specs], {
    cwd: work,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // A list, or in newer versions of npm an object.
  const fetched = Object.values(JSON.parse(report));
  for (const [name, version, integrity] of packages) {
    const found = fetched.find((found) => found.name === name && found.version === version);
    if (found?.integrity !== integrity) {
      throw new Error(`${name} ${version} is ${found?.integrity ?? 'missing'} instead of ${integrity}`);
    }
    const folder = join(modules, name);
    mkdirSync(folder, { recursive: true });
    execFileSync('tar', ['-xzf', join(work, found.filename), '-C', folder, '--strip-components=1', '--no-same-owner']);
  }
}

/** The platform's WIT, by the numbers that the engine knows. */
function writeWit() {
  const folder = join(work, 'wit');
  for (const name of WIT_PACKAGES) {
    mkdirSync(join(folder, 'deps', name), { recursive: true });
    const text = readFileSync(join(wit, 'deps', `wasi-${name}-0.2.12`, 'package.wit'), 'utf8');
    writeFileSync(join(folder, 'deps', name, 'package.wit'), text.replaceAll('0.2.12', '0.2.10'));
  }
  // Its interface alone: what its world has beside that is for components of other makers.
  const worker = readFileSync(join(wit, 'worker', 'worker.wit'), 'utf8');
  mkdirSync(join(folder, 'deps', 'worker'));
  writeFileSync(join(folder, 'deps', 'worker', 'package.wit'), worker.replace(/^world [^]*?^\}$/m, ''));
  cpSync(join(pack, 'world.wit'), join(folder, 'world.wit'));
  return folder;
}

/** What the engine is told about the functions of its world, as componentize-js tells it. */
function environment(exports, imports) {
  const told = {
    DEBUG: '',
    SOURCE_NAME: 'app.js',
    FEATURE_CLOCKS: '1',
    EXPORT_CNT: String(exports.length),
    IMPORT_CNT: String(imports.length),
  };
  exports.forEach(([name, { params, paramptr, ret, retptr, retsize }], i) => {
    told[`EXPORT${i}_NAME`] = name;
    told[`EXPORT${i}_ARGS`] = (paramptr ? '*' : '') + params.join(',');
    told[`EXPORT${i}_RET`] = (retptr ? '*' : '') + (ret || '');
    told[`EXPORT${i}_RETSIZE`] = String(retsize);
  });
  imports.forEach(([, name, count], i) => {
    told[`IMPORT${i}_NAME`] = name;
    told[`IMPORT${i}_ARGCNT`] = String(count);
  });
  return told;
}

async function makeEngine(world, witFolder) {
  console.error(`Preparing the engine for ${world}`);
  const load = (path) => import(pathToFileURL(join(modules, PASSING, path)));
  const { splicer } = await load('componentize-js/lib/spidermonkey-embedding-splicer.js');
  const { componentNew, metadataAdd } = await load('jco-transpile/dist/wasm-tools.js');
  const engine = readFileSync(join(modules, PASSING, 'componentize-js/lib/starlingmonkey_embedding.wasm'));
  const adapter = readFileSync(join(modules, PASSING, 'jco/lib/wasi_snapshot_preview1.reactor.wasm'));
  const features = FEATURES[world];
  const spliced = splicer.spliceBindings(engine, features, undefined, witFolder, world, false);
  const module = Buffer.from(spliced.wasm);
  // A component starts where the engine has already run.
  const bare = without(module, ['_initialize', 'componentize.wizer', 'check_init']);
  const stubbed = splicer.stubWasi(bare, features, undefined, witFolder, world);
  const component = await componentNew(stubbed, [['wasi_snapshot_preview1', adapter]], false);
  const { version } = JSON.parse(readFileSync(join(modules, PASSING, 'componentize-js/package.json'), 'utf8'));
  const named = await metadataAdd(component, [
    ['language', [['JavaScript', '']]],
    ['processed-by', [['ComponentizeJS', version]]],
  ]);
  const write = (name, content) => writeFileSync(join(work, 'made', `${world}.${name}`), content);
  write('engine.wasm', exposed(module));
  write('component.wasm', named);
  write('bindings.js', spliced.jsBindings);
  write('environment.json', JSON.stringify(environment(spliced.exports, spliced.imports)));
}

fetchPackages();
const witFolder = writeWit();
for (const world of Object.keys(FEATURES)) await makeEngine(world, witFolder);
rmSync(join(modules, PASSING), { recursive: true });
