// What the words of a Procfile entry mean: a script, its arguments, and the variables that it is given.
//
// npm's start scripts are looked up in package.json, one level deep; there is no shell in them.

import { existsSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { Wrong, isFile } from './project.mjs';

const ENDINGS = ['', '.js', '.mjs', '.cjs', '.ts', '.mts', '.cts', '.tsx', '.jsx'];
/** Flags of node and its like with a value as the next word. */
const WITH_VALUE = [
  '-r',
  '--require',
  '--import',
  '--loader',
  '--experimental-loader',
  '-C',
  '--conditions',
  '--env-file',
  '--env-file-if-exists',
  '--tsconfig',
  '-P',
  '--project',
  '--max-old-space-size',
  '--stack-size',
  '--title',
];
const LOADERS = ['-r', '--require', '--import', '--loader', '--experimental-loader'];
/** Modules that are loaded first to do what the bundler does anyway. */
const NEEDLESS = /^(tsx|ts-node|esbuild-register|@swc-node\/register|sucrase|source-map-support)(\/.*)?$/;
const SHELL = /&&|\|\||[|;<>`]|\$\(|&$/;

/** A script to run, with what goes before it. */
class Command {
  constructor(script, args) {
    this.script = script;
    this.args = args;
    this.env = {};
    /** Scripts of package.json that make the script. */
    this.before = [];
    this.manifest = undefined;
    this.tool = 'node';
  }

  /** The script's path in the project. */
  locate() {
    let path = posix.normalize(this.script);
    if (path.startsWith('/') || path.startsWith('..'))
      throw new Wrong(`${this.script} is outside of the project`);
    if (existsSync(path) && statSync(path).isDirectory()) {
      const main = path === '.' ? this.manifest?.main : undefined;
      path = posix.join(path, main ?? 'index');
    }
    const found = ENDINGS.map((ending) => path + ending).find(isFile);
    if (!found) throw new Wrong(`there is no ${this.script} in the project`);
    return found;
  }
}

/** Errors: `Wrong`, for words that name no script. */
export function parse(words, manifest) {
  const command = ofWords(words, manifest, 0);
  command.manifest = manifest;
  if (!command.before.length && manifest?.scripts?.build && !exists(command)) command.before.push('build');
  return command;
}

function exists(command) {
  try {
    return Boolean(command.locate());
  } catch {
    return false;
  }
}

function ofWords([first, ...rest], manifest, depth) {
  switch (first) {
    case 'node':
    case 'tsx':
    case 'ts-node':
      return ofNode(first, rest);
    case 'npx':
      return ofWords(
        rest.filter((word, at) => at > 0 || !['-y', '--yes', '--'].includes(word)),
        manifest,
        depth,
      );
    case 'npm':
      return ofNpm(first, rest, manifest, depth);
    case 'bun':
    case 'deno':
      return ofOther(first, rest, manifest, depth);
    default:
      throw new Wrong(`${first ?? 'nothing'} runs no script here; write: node SCRIPT`);
  }
}

function ofNode(first, words) {
  let at = 0;
  for (; at < words.length && words[at].startsWith('-'); at++) {
    const [flag, own] = words[at].split('=', 2);
    if (['-e', '--eval', '-p', '--print', '-i', '--test'].includes(flag))
      throw new Wrong(`${first} ${flag} runs no file; write: ${first} SCRIPT`);
    if (flag === '--') {
      at++;
      break;
    }
    const value = own ?? (WITH_VALUE.includes(flag) ? words[++at] : undefined);
    if (LOADERS.includes(flag) && !NEEDLESS.test(value ?? '')) {
      throw new Wrong(`${first} ${flag} ${value}: import it in the script instead`);
    }
    if (flag.startsWith('--env-file')) throw new Wrong(`${first} ${flag}: set variables with gilliam config`);
  }
  if (at >= words.length) throw new Wrong(`${first} names no script; write: ${first} SCRIPT`);
  return new Command(words[at], words.slice(at + 1));
}

function ofOther(first, words, manifest, depth) {
  const flags = words.findIndex((word) => !word.startsWith('-'));
  let rest = flags < 0 ? [] : words.slice(flags);
  if (['run', 'serve', 'start', 'task'].includes(rest[0])) {
    const verb = rest[0];
    rest = rest.slice(1);
    while (rest[0]?.startsWith('-')) rest = rest.slice(1);
    const name = verb === 'start' ? 'start' : rest[0];
    if (verb !== 'serve' && manifest?.scripts?.[name])
      return ofScript(name, verb === 'start' ? rest : rest.slice(1), manifest, depth);
  }
  if (!rest.length) throw new Wrong(`${first} names no script; write: ${first} run SCRIPT`);
  const command = new Command(rest[0], rest.slice(1));
  command.tool = first;
  return command;
}

function ofNpm(first, words, manifest, depth) {
  const [verb, ...rest] = words.filter((word, at) => !word.startsWith('-') || at > words.indexOf('--'));
  const more = words.includes('--') ? words.slice(words.indexOf('--') + 1) : [];
  if (verb === 'start') return ofScript('start', more, manifest, depth);
  if (['run', 'run-script'].includes(verb) && rest.length) return ofScript(rest[0], more, manifest, depth);
  throw new Wrong(`${first} ${words.join(' ')} starts no script; write: npm start, or npm run NAME`);
}

function ofScript(name, more, manifest, depth) {
  if (!manifest)
    throw new Wrong(
      `there is no package.json beside the Procfile, and npm looks for the script ${name} in it`,
    );
  if (depth > 0)
    throw new Wrong(`the script ${name} is started by another one; name it in the Procfile: npm run ${name}`);
  let text = manifest.scripts?.[name];
  if (!text && name === 'start' && isFile('server.js')) text = 'node server.js';
  if (!text) throw new Wrong(`package.json has no script ${name}`);
  if (SHELL.test(text))
    throw new Wrong(
      `package.json: the script ${name} needs a shell: ${text}\nname one command in it, or write the command in the Procfile`,
    );
  const words = split(text);
  const env = {};
  if (words[0] === 'cross-env') words.shift();
  for (let pair; (pair = /^([A-Za-z_]\w*)=(.*)$/.exec(words[0] ?? '')); words.shift()) env[pair[1]] = pair[2];
  const command = ofWords([...words, ...more], manifest, depth + 1);
  Object.assign(command.env, env);
  if (manifest.scripts[`pre${name}`]) command.before.push(`pre${name}`);
  return command;
}

/** Words as a shell splits them, with its quotes. */
function split(text) {
  const words = text.match(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g) ?? [];
  return words.map((word) => word.replace(/"([^"]*)"|'([^']*)'/g, (_, double, single) => double ?? single));
}
