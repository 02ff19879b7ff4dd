// node:fs of an instance that has no files: every path is missing.

function missing(call, path) {
  const error = new Error(
    `ENOENT: no such file or directory, ${call} '${path}'; an instance has no files: import them in the program`,
  );
  return Object.assign(error, { code: 'ENOENT', errno: -2, syscall: call, path: String(path) });
}

const sync = (call) => (path) => {
  throw missing(call, path);
};
const later = (call) => async (path) => {
  throw missing(call, path);
};
const back =
  (call) =>
  (path, ...rest) => {
    const done = rest.findLast((word) => typeof word === 'function');
    queueMicrotask(() => done?.(missing(call, path)));
  };

export const existsSync = () => false;
export const exists = (path, done) => queueMicrotask(() => done(false));
export const [
  access,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
  writeFile,
  appendFile,
] = [
  'access',
  'lstat',
  'mkdir',
  'open',
  'open',
  'scandir',
  'readlink',
  'realpath',
  'rename',
  'rm',
  'rmdir',
  'stat',
  'unlink',
  'open',
  'open',
].map(back);
export const [
  accessSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  appendFileSync,
  createReadStream,
  createWriteStream,
  watch,
  mkdtempSync,
  closeSync,
  readSync,
  writeSync,
  fstatSync,
  renameSync,
  readlinkSync,
] = [
  'access',
  'lstat',
  'mkdir',
  'open',
  'open',
  'scandir',
  'realpath',
  'rm',
  'stat',
  'unlink',
  'open',
  'open',
  'open',
  'open',
  'watch',
  'mkdtemp',
  'close',
  'read',
  'write',
  'fstat',
  'rename',
  'readlink',
].map(sync);
export const promises = Object.fromEntries(
  [
    'access',
    'appendFile',
    'lstat',
    'mkdir',
    'open',
    'readFile',
    'readdir',
    'realpath',
    'rename',
    'rm',
    'stat',
    'unlink',
    'writeFile',
  ].map((name) => [name, later(name)]),
);
export const constants = { F_OK: 0, R_OK: 4, W_OK: 2, X_OK: 1, O_RDONLY: 0 };
export class Stats {}
export class ReadStream {}
export class WriteStream {}
export default {
  ReadStream,
  Stats,
  WriteStream,
  access,
  accessSync,
  appendFile,
  appendFileSync,
  closeSync,
  constants,
  createReadStream,
  createWriteStream,
  exists,
  existsSync,
  fstatSync,
  lstat,
  lstatSync,
  mkdir,
  mkdirSync,
  mkdtempSync,
  open,
  openSync,
  promises,
  readFile,
  readFileSync,
  readSync,
  readdir,
  readdirSync,
  readlink,
  readlinkSync,
  realpath,
  realpathSync,
  rename,
  renameSync,
  rm,
  rmSync,
  rmdir,
  stat,
  statSync,
  unlink,
  unlinkSync,
  watch,
  writeFile,
  writeFileSync,
  writeSync,
};
