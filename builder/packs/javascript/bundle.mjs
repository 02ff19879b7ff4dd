// One file of a script and all that it imports, by esbuild, with the platform's own beginning.
//
// The script and its packages are bundled so that they are evaluated when the process starts and not when it
// is built: they see the config, the time and the random numbers of the run. What of the platform's own modules
// they use is evaluated at the build, which costs a start nothing.

import { existsSync, readFileSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { decode, encode } from './runtime/mappings.mjs';
import { spellOut } from './patterns.mjs';
import { NODE_VERSION, Wrong, tool } from './project.mjs';

const { GILLIAM_PACK: pack, GILLIAM_JAVASCRIPT: tools } = process.env;
const RUNTIME = join(pack, 'runtime');
/** What projects import as `gilliam`. */
const SDK = join(pack, 'sdk', 'src', 'index.js');
const BUILTINS = join(tools, 'node_modules/@jspm/core/nodelibs/browser');
/** The part of them that is another `process`. */
const OTHER_PROCESS = './chunk-DEMDiNwt.js';
const WASI = /^wasi:/;
/** Modules of Node.js in the registry's packages for other places than Node.js. */
const FROM_PACKAGE = new Set([
  'assert',
  'assert/strict',
  'buffer',
  'constants',
  'diagnostics_channel',
  'events',
  'path',
  'path/posix',
  'punycode',
  'querystring',
  'stream',
  'stream/promises',
  'stream/web',
  'string_decoder',
  'sys',
  'url',
  'util',
  'util/types',
  'zlib',
]);
/** Modules that an instance cannot have. A package that can do without may import them; they throw when used. */
const ABSENT = new Set([
  'child_process',
  'cluster',
  'dgram',
  'domain',
  'http2',
  'inspector',
  'inspector/promises',
  'repl',
  'readline',
  'readline/promises',
  'sea',
  'sqlite',
  'test',
  'trace_events',
  'v8',
  'vm',
  'wasi',
  'worker_threads',
  'dns',
  'dns/promises',
  'tls',
]);
const LOADERS = { '.mts': 'ts', '.cts': 'ts', '.mjs': 'js', '.cjs': 'js' };
/** How a script says that it answers requests: by what it exports, by an event, or by a server. */
const EXPORTS =
  /^\s*export\s+default\b|\bas\s+default\b|\bmodule\.exports\s*=\s*\{[^}]*\bfetch\b|\bexports\.(default|fetch)\s*=/m;
const LISTENS = /addEventListener\s*\(\s*['"`]fetch|\b(Bun|Deno)\s*\.\s*serve\s*\(/;
const SERVES = /\bcreateServer\s*\(|\bserve\s*\(|\.listen\s*\(/;

/** How a script says that it does jobs. */
const JOBS = /^\s*export\s+(async\s+)?function\s+job\b|^\s*export\s+(const|let|var)\s+job\b|\bas\s+job\b|\bexports\.job\s*=/m;

const isInstalled = (path) => path.includes('/node_modules/');

function ownModule(name) {
  const file = join(RUNTIME, 'node', `${name}.js`);
  return existsSync(file) ? file : undefined;
}

/** What `require` answers is a module's default. */
function required({ kind }, found) {
  if (kind !== 'require-call' || !found?.path || found.namespace) return found;
  return { path: found.path, namespace: 'required' };
}

/** Node's modules, the platform's own, and the beginning of it all. */
function platform(entry) {
  const builtin = ({ path, importer }) => {
    const name = path.replace(/^node:/, '');
    const own = ownModule(name);
    if (own) return { path: own, sideEffects: false };
    if (FROM_PACKAGE.has(name)) return { path: join(BUILTINS, `${name}.js`), sideEffects: false };
    if (!ABSENT.has(name)) return undefined;
    if (!isInstalled(importer))
      return {
        errors: [
          {
            text: `${path} is not there: an instance has no processes, threads, files or sockets of its own`,
          },
        ],
      };
    return { path: name, namespace: 'absent' };
  };
  return {
    name: 'gilliam',
    setup(build) {
      build.onResolve({ filter: WASI }, ({ path }) => ({ path, external: true }));
      build.onResolve({ filter: /^\.\/.*\.js$/ }, ({ path, resolveDir }) => {
        if (resolveDir !== BUILTINS) return undefined;
        return {
          path: path === OTHER_PROCESS ? join(RUNTIME, 'other-process.js') : join(BUILTINS, path),
          sideEffects: false,
        };
      });
      build.onResolve({ filter: /^gilliam$/ }, () => ({ path: SDK, sideEffects: false }));
      build.onResolve({ filter: /^gilliam:/ }, ({ path }) => ({
        path: join(RUNTIME, `${path.slice('gilliam:'.length)}.js`),
      }));
      build.onResolve({ filter: /^@noble\/hashes\// }, ({ path, importer }) =>
        importer.startsWith(RUNTIME)
          ? { path: join(tools, 'node_modules', `${path.replace('hashes/', 'hashes/esm/')}.js`) }
          : undefined,
      );
      build.onResolve(
        { filter: /^node:/ },
        (asked) =>
          required(asked, builtin(asked)) ?? { errors: [{ text: `there is no module ${asked.path}` }] },
      );
      build.onResolve({ filter: /^[a-z_0-9]+(\/[a-z]+)?$/ }, async (asked) => {
        // A package of the project may have the name of one of Node's modules; only those with a slash behind do.
        if (
          asked.path.includes('/') &&
          !asked.path.startsWith('fs/') &&
          !ABSENT.has(asked.path) &&
          !FROM_PACKAGE.has(asked.path) &&
          !ownModule(asked.path)
        )
          return undefined;
        return required(asked, builtin(asked));
      });
      build.onLoad({ filter: /.*/, namespace: 'required' }, ({ path }) => ({
        contents: `const all = require(${JSON.stringify(path)}); module.exports = all.default ?? all;`,
        resolveDir: RUNTIME,
      }));
      build.onLoad({ filter: /.*/, namespace: 'absent' }, ({ path }) => ({
        contents: `module.exports = require('gilliam:absent').absent(${JSON.stringify(path)});`,
        resolveDir: RUNTIME,
      }));
      // In the script itself, and there alone, this is the module that was started.
      build.onLoad(
        { filter: new RegExp(`^${entry.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}$`) },
        ({ path }) => ({
          contents: readFileSync(path, 'utf8')
            .replace(/^#!.*/, '')
            .replace(/\brequire\.main\b/g, 'module')
            .replace(/\bimport\.meta\.main\b/g, 'true'),
          loader: LOADERS[extname(path)] ?? extname(path).slice(1),
        }),
      );
    },
  };
}

/** The module that the engine starts: `used` are the platform's modules that are evaluated at the build. */
function beginning(world, entry, program, used) {
  // A worker's work is its top-level code, which is never run at the build.
  const isEarly = world === 'web' && program.snapshot === true;
  const parts = ['gilliam:early', 'gilliam:process', ...used].map(
    (path) => `import ${JSON.stringify(path)};`,
  );
  if (isEarly) parts.push(`import * as loaded from ${JSON.stringify(entry)};`);
  const early = parts.join('\n');
  const load = isEarly ? 'async () => loaded' : `() => import(${JSON.stringify(entry)})`;
  const told = JSON.stringify(program);
  if (world === 'web') return `${early}\nimport { serve } from 'gilliam:web';\nserve(${load}, ${told});`;
  if (world === 'job') {
    const handler = `{ handle: (given) => handle(${load}, ${told}, given) }`;
    return `${early}\nimport { handle } from 'gilliam:job';\nexport const handler = ${handler};`;
  }
  return `${early}\nimport { start } from 'gilliam:command';\nexport const run = { run: () => start(${load}, ${told}) };`;
}

async function esbuild(world, entry, program, used, isMap) {
  const options = {
    stdin: {
      contents: beginning(world, entry, program, used),
      resolveDir: process.cwd(),
      sourcefile: 'gilliam',
    },
    bundle: true,
    write: false,
    metafile: true,
    outfile: join(process.cwd(), 'app.js'),
    absWorkingDir: process.cwd(),
    format: 'esm',
    platform: 'neutral',
    target: 'es2024',
    // All of them become calls of RegExp, whose patterns are then spelled out.
    supported: { 'regexp-sticky-and-unicode-flags': false },
    mainFields: ['module', 'main'],
    conditions: ['worker', 'module'],
    charset: 'utf8',
    logLevel: 'silent',
    sourcemap: isMap ? 'external' : false,
    sourcesContent: false,
    legalComments: 'none',
    loader: {
      '.html': 'text',
      '.txt': 'text',
      '.sql': 'text',
      '.md': 'text',
      '.css': 'text',
      '.node': 'empty',
    },
    inject: [join(RUNTIME, 'globals.js')],
    define: {
      global: 'globalThis',
      __dirname: '"/app"',
      __filename: JSON.stringify(`/app/${program.script}`),
      'import.meta.url': JSON.stringify(`file:///app/${program.script}`),
      'import.meta.dirname': '"/app"',
      'import.meta.filename': JSON.stringify(`/app/${program.script}`),
      'require.main': 'undefined',
    },
    plugins: [platform(entry)],
  };
  const { build, formatMessages } = tool('esbuild');
  try {
    return await build(options);
  } catch (error) {
    if (!error.errors) throw error;
    const lines = await formatMessages(error.errors, { kind: 'error', color: false });
    throw new Wrong(lines.join('').trim());
  }
}

/** Errors: `Wrong`, with esbuild's message, its file and line. */
export async function bundle({ script, command, manifest, isWeb }) {
  const entry = resolve(script);
  const program = {
    script,
    env: command.env,
    tool: command.tool,
    version: NODE_VERSION,
    snapshot: snapshotOf(manifest),
  };
  // Once to see what it needs.
  const first = await esbuild('command', entry, program, [], false);
  const inputs = Object.keys(first.metafile.inputs);
  const doesJobs = !isWeb && JOBS.test(readFileSync(script, 'utf8'));
  const world = doesJobs ? 'job' : answers(script, inputs) ? 'web' : 'command';
  if (isWeb && world !== 'web') {
    throw new Wrong(
      `${script} answers no requests: let it export default { fetch(request) { … } }, call addEventListener("fetch", …), or listen with node:http`,
    );
  }
  const used = inputs
    .map((path) => resolve(path))
    .filter((path) => path.startsWith(BUILTINS) || path.startsWith(join(RUNTIME, 'node/')));
  if (program.snapshot) used.push(...packagesOf(first.metafile));
  const made = await esbuild(world, entry, program, used.sort(), true);
  const [map, code] = ['.map', '.js'].map(
    (end) => made.outputFiles.find(({ path }) => path.endsWith(end)).text,
  );
  return { world, text: withMap(spellOut(code), map), inputs: Object.keys(made.metafile.inputs).length };
}

/** What package.json wants evaluated at the build: nothing, its packages, or all of it. */
function snapshotOf(manifest) {
  const wanted = manifest?.gilliam?.snapshot ?? false;
  if (![false, true, 'packages'].includes(wanted))
    throw new Wrong(
      `package.json: gilliam.snapshot is ${JSON.stringify(wanted)}; it is true, false or "packages"`,
    );
  return wanted;
}

/** The packages' modules that the project's own files import. */
function packagesOf({ inputs }) {
  const own = Object.entries(inputs).filter(
    ([path]) => !isInstalled(`/${path}`) && !path.startsWith('..') && existsSync(path),
  );
  const imported = own.flatMap(([, { imports }]) => imports.map(({ path }) => path));
  return [
    ...new Set(
      imported
        .filter((path) => path.includes('node_modules/') && !path.includes(':') && existsSync(path))
        .map((path) => resolve(path)),
    ),
  ].sort();
}

/**
 * Which lines of the sources the lines of the bundle are, for the engine's stack traces: of the project's own files
 * to the column, of packages to the line, of the platform not at all.
 */
function withMap(code, map) {
  const { sources, mappings } = JSON.parse(map);
  const isOwn = sources.map((path) => !path.startsWith('..') && !isInstalled(`/${path}`));
  const isPackage = sources.map((path) => isInstalled(`/${path}`) && !resolve(path).startsWith(tools));
  const lines = decode(mappings).map((segments) => {
    const [first] = segments;
    if (!first) return segments;
    if (isOwn[first[1]]) return segments;
    return isPackage[first[1]] ? [first] : [];
  });
  return `globalThis[Symbol.for('gilliam.map')] = ${JSON.stringify({ sources, mappings: encode(lines) })};${code}`;
}

/** Whether a program is made to answer requests, as far as its own files tell. */
function answers(script, inputs) {
  const texts = inputs
    .filter((path) => !isInstalled(`/${path}`) && !path.startsWith('..') && existsSync(path))
    .map((path) => readFileSync(path, 'utf8'));
  if (EXPORTS.test(readFileSync(script, 'utf8')) || texts.some((text) => LISTENS.test(text))) return true;
  const hasServer = inputs.some((path) => resolve(path) === join(RUNTIME, 'node/http.js'));
  return hasServer && texts.some((text) => SERVES.test(text));
}
