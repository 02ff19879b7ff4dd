// Runs the engine's first seconds: the program is loaded, and what it is then is the component.
//
// What wizer does, with all that could differ from one build to the next held fixed: clock, random numbers, names
// of files. The engine sees two files, its environment and its arguments, and nothing of the machine.

import { writeSync } from 'node:fs';

const OK = 0;
const BADF = 8;
const NOENT = 44;
const NOSYS = 52;
/** Any time will do: one that people recognise. */
const CLOCK_NS = 1_700_000_000_000_000_000n;
const FILE = { folder: 3, regular: 4, character: 2 };
const ROOT = 3;

export class Exit extends Error {}

/** WASI preview 1 over `files` (name to text), with `input` on standard input. */
class Wasi {
  constructor(files, environment, input) {
    this.files = new Map(Object.entries(files).map(([name, text]) => [name, Buffer.from(text)]));
    this.environment = Object.entries(environment).map(([name, value]) => Buffer.from(`${name}=${value}\0`));
    this.open = new Map([[0, { bytes: Buffer.from(input), at: 0 }]]);
    this.seed = 0x9e3779b9;
    this.printed = '';
  }

  get view() {
    return new DataView(this.memory.buffer);
  }

  bytes(at, length) {
    return new Uint8Array(this.memory.buffer, at, length);
  }

  imports() {
    const names = Object.getOwnPropertyNames(Wasi.prototype).filter((name) => name.includes('_'));
    return Object.fromEntries(names.map((name) => [name, this[name].bind(this)]));
  }

  environ_sizes_get(count, size) {
    this.view.setUint32(count, this.environment.length, true);
    this.view.setUint32(
      size,
      this.environment.reduce((sum, entry) => sum + entry.length, 0),
      true,
    );
    return OK;
  }

  environ_get(pointers, buffer) {
    for (const entry of this.environment) {
      this.view.setUint32(pointers, buffer, true);
      this.bytes(buffer, entry.length).set(entry);
      pointers += 4;
      buffer += entry.length;
    }
    return OK;
  }

  args_sizes_get(count, size) {
    this.view.setUint32(count, 0, true);
    this.view.setUint32(size, 0, true);
    return OK;
  }

  args_get() {
    return OK;
  }

  clock_time_get(_clock, _precision, at) {
    this.view.setBigUint64(at, CLOCK_NS, true);
    return OK;
  }

  clock_res_get(_clock, at) {
    this.view.setBigUint64(at, 1n, true);
    return OK;
  }

  random_get(at, length) {
    for (const slot = this.bytes(at, length), n = { i: 0 }; n.i < length; n.i++) {
      this.seed ^= this.seed << 13;
      this.seed ^= this.seed >>> 17;
      this.seed ^= this.seed << 5;
      slot[n.i] = this.seed >>> 11;
    }
    return OK;
  }

  fd_read(fd, vectors, count, read) {
    const file = this.open.get(fd);
    if (!file) return BADF;
    let total = 0;
    for (; count > 0; count--, vectors += 8) {
      const slot = this.bytes(this.view.getUint32(vectors, true), this.view.getUint32(vectors + 4, true));
      const piece = file.bytes.subarray(file.at, file.at + slot.length);
      slot.set(piece);
      file.at += piece.length;
      total += piece.length;
    }
    this.view.setUint32(read, total, true);
    return OK;
  }

  fd_write(fd, vectors, count, written) {
    if (fd !== 1 && fd !== 2) return BADF;
    let total = 0;
    for (; count > 0; count--, vectors += 8) {
      const piece = this.bytes(this.view.getUint32(vectors, true), this.view.getUint32(vectors + 4, true));
      this.printed += Buffer.from(piece).toString();
      total += piece.length;
    }
    this.view.setUint32(written, total, true);
    return OK;
  }

  fd_seek(fd, offset, whence, result) {
    const file = this.open.get(fd);
    if (!file || fd === 0) return fd <= 2 ? 70 : BADF;
    file.at = Number(offset) + [0, file.at, file.bytes.length][whence];
    this.view.setBigUint64(result, BigInt(file.at), true);
    return OK;
  }

  fd_close(fd) {
    return this.open.delete(fd) ? OK : BADF;
  }

  fd_fdstat_get(fd, at) {
    this.bytes(at, 24).fill(0);
    this.view.setUint8(at, fd <= 2 ? FILE.character : fd === ROOT ? FILE.folder : FILE.regular);
    this.view.setBigUint64(at + 8, 0x1fffffffn, true);
    this.view.setBigUint64(at + 16, 0x1fffffffn, true);
    return OK;
  }

  fd_fdstat_set_flags() {
    return OK;
  }

  fd_prestat_get(fd, at) {
    if (fd !== ROOT) return BADF;
    this.view.setUint32(at, 0, true);
    this.view.setUint32(at + 4, 1, true);
    return OK;
  }

  fd_prestat_dir_name(_fd, at) {
    this.view.setUint8(at, '/'.charCodeAt(0));
    return OK;
  }

  stat(at, type, size) {
    this.bytes(at, 64).fill(0);
    this.view.setUint8(at + 16, type);
    this.view.setBigUint64(at + 24, 1n, true);
    this.view.setBigUint64(at + 32, BigInt(size), true);
    return OK;
  }

  fd_filestat_get(fd, at) {
    return this.stat(at, fd <= 2 ? FILE.character : FILE.regular, this.open.get(fd)?.bytes.length ?? 0);
  }

  path_filestat_get(_fd, _flags, path, length, at) {
    const file = this.files.get(Buffer.from(this.bytes(path, length)).toString());
    return file ? this.stat(at, FILE.regular, file.length) : NOENT;
  }

  path_open(_fd, _flags, path, length, _oflags, _base, _inheriting, _fdflags, at) {
    const bytes = this.files.get(Buffer.from(this.bytes(path, length)).toString());
    if (!bytes) return NOENT;
    const fd = 4 + this.open.size;
    this.open.set(fd, { bytes, at: 0 });
    this.view.setUint32(at, fd, true);
    return OK;
  }

  sched_yield() {
    return OK;
  }

  proc_exit(code) {
    throw new Exit(`the engine exited with ${code}`);
  }
}

/** While a program is built there are no variables and no arguments: empty lists. */
const EMPTY = ['get-environment', 'get-arguments'];

/** Starts the engine with the program and answers its instance's exports, which `module.mjs` reads. */
export async function start(module, { files, environment, input }) {
  const wasi = new Wasi(files, environment, input);
  const own = wasi.imports();
  const imports = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    const missing = (at) => {
      if (from === 'wasi_snapshot_preview1') return NOSYS;
      if (EMPTY.includes(name)) return void wasi.bytes(at, 8).fill(0);
      throw new Error(`the program used ${from} ${name} while it was loaded`);
    };
    (imports[from] ??= {})[name] = from === 'wasi_snapshot_preview1' ? (own[name] ?? missing) : missing;
  }
  const { exports } = await WebAssembly.instantiate(module, imports);
  wasi.memory = exports.memory;
  try {
    exports._initialize?.();
    exports['componentize.wizer']();
  } catch (error) {
    error.printed = wasi.printed;
    throw error;
  }
  if (wasi.printed) writeSync(2, wasi.printed);
  return exports;
}
