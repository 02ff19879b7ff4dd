// The global `process`, as far as an instance has one.
import { getArguments, getEnvironment } from 'wasi:cli/environment@0.2.10';
import { getStderr } from 'wasi:cli/stderr@0.2.10';
import { getStdout } from 'wasi:cli/stdout@0.2.10';
import 'gilliam:console';
import { Ended } from 'gilliam:ended';

const START_MS = 0;
const encoder = new TextEncoder();
/** Bytes that one call of the host takes. */
const WRITE_BYTES_MAX = 4096;

function output(open, fd) {
  let stream;
  return {
    fd,
    isTTY: false,
    writable: true,
    columns: 80,
    write(chunk, encoding, done) {
      stream ??= open();
      const bytes = typeof chunk === 'string' ? encoder.encode(chunk) : chunk;
      for (let at = 0; at < bytes.length; at += WRITE_BYTES_MAX) {
        stream.blockingWriteAndFlush(bytes.subarray(at, at + WRITE_BYTES_MAX));
      }
      const after = typeof encoding === 'function' ? encoding : done;
      if (after) queueMicrotask(after);
      return true;
    },
    end(chunk) {
      if (chunk !== undefined) this.write(chunk);
    },
    on() {
      return this;
    },
    once() {
      return this;
    },
    off() {
      return this;
    },
    emit: () => false,
    removeListener() {
      return this;
    },
    getColorDepth: () => 1,
    hasColors: () => false,
  };
}

const listeners = new Map();
const of = (name) => listeners.get(name) ?? [];

export const process = {
  title: 'node',
  pid: 1,
  ppid: 0,
  platform: 'linux',
  arch: 'wasm32',
  argv0: 'node',
  execArgv: [],
  execPath: '/usr/bin/node',
  exitCode: undefined,
  argv: [],
  env: {},
  features: {},
  config: { variables: {} },
  release: { name: 'node' },
  stdout: output(getStdout, 1),
  stderr: output(getStderr, 2),
  stdin: {
    fd: 0,
    isTTY: false,
    on() {
      return this;
    },
    once() {
      return this;
    },
    resume() {},
    pause() {},
  },
  cwd: () => '/app',
  chdir() {},
  umask: () => 0o22,
  uptime: () => performance.now() / 1000 - START_MS,
  hrtime: Object.assign(
    (before = [0, 0]) => {
      const now = performance.now();
      const [seconds, nanos] = [
        Math.floor(now / 1000) - before[0],
        Math.floor((now % 1000) * 1e6) - before[1],
      ];
      return nanos < 0 ? [seconds - 1, nanos + 1e9] : [seconds, nanos];
    },
    { bigint: () => BigInt(Math.floor(performance.now() * 1e6)) },
  ),
  memoryUsage: Object.assign(() => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 }), {
    rss: () => 0,
  }),
  cpuUsage: () => ({ user: Math.floor(performance.now() * 1000), system: 0 }),
  nextTick: (task, ...args) => queueMicrotask(() => task(...args)),
  emitWarning: (warning) => console.warn(`${warning?.name ?? 'Warning'}: ${warning?.message ?? warning}`),
  exit(code) {
    if (code !== undefined) process.exitCode = code;
    throw new Ended(process.exitCode);
  },
  abort: () => process.exit(134),
  kill() {
    throw new Error('an instance has no other processes');
  },
  binding(name) {
    throw new Error(`process.binding(${JSON.stringify(name)}) is not there`);
  },
  on(name, listener) {
    listeners.set(name, [...of(name), listener]);
    return process;
  },
  off(name, listener) {
    listeners.set(
      name,
      of(name).filter((other) => other !== listener),
    );
    return process;
  },
  once(name, listener) {
    const once = (...args) => {
      process.off(name, once);
      listener(...args);
    };
    return process.on(name, once);
  },
  emit(name, ...args) {
    of(name).forEach((listener) => listener(...args));
    return of(name).length > 0;
  },
  removeAllListeners(name) {
    listeners.delete(name);
    return process;
  },
  listeners: of,
  listenerCount: (name) => of(name).length,
  setMaxListeners: () => process,
  getMaxListeners: () => Infinity,
};
globalThis.process = process;
process.addListener = process.on;
process.removeListener = process.off;
process.prependListener = process.on;

/** Gives it what this run has: its config and arguments. */
export function begin({ script, env, tool, version }) {
  // The same object for whoever took it while a snapshot was made.
  Object.assign(process.env, { NODE_ENV: 'production' }, Object.fromEntries(getEnvironment()), env);
  const words = getArguments();
  process.argv = ['/usr/bin/node', `/app/${script}`, ...words.slice(1)];
  process.version = `v${version}`;
  process.versions = { node: version };
  if (tool === 'deno') globalThis.Deno = deno();
  if (tool === 'bun') globalThis.Bun = { env: process.env, argv: process.argv, serve };
}

/** Who answers requests, once a script says so by a call. */
export const server = Promise.withResolvers();

function serve(...words) {
  const handler =
    words.find((word) => typeof word === 'function') ??
    words.map((word) => word?.fetch ?? word?.handler).find(Boolean);
  if (!handler) throw new TypeError('serve is given no handler');
  server.resolve((request, env, context) => handler(request, context));
  return {
    port: Number(process.env.PORT ?? 0),
    hostname: 'localhost',
    stop() {},
    finished: new Promise(() => {}),
    addr: {},
  };
}

function deno() {
  const env = {
    get: (name) => process.env[name],
    has: (name) => name in process.env,
    set: (name, value) => void (process.env[name] = String(value)),
    toObject: () => ({ ...process.env }),
  };
  return { env, args: process.argv.slice(2), serve, exit: process.exit, pid: 1, cwd: process.cwd };
}
