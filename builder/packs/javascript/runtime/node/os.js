// node:os: an instance is a machine of its own.
export const EOL = '\n';
export const devNull = '/dev/null';
export const arch = () => 'wasm32';
export const availableParallelism = () => 1;
export const cpus = () => [];
export const endianness = () => 'LE';
export const freemem = () => 0;
export const homedir = () => '/';
export const hostname = () => globalThis.process?.env.HOSTNAME ?? 'localhost';
export const loadavg = () => [0, 0, 0];
export const machine = () => 'wasm32';
export const networkInterfaces = () => ({});
export const platform = () => 'linux';
export const release = () => '';
export const tmpdir = () => '/tmp';
export const totalmem = () => 0;
export const type = () => 'Linux';
export const uptime = () => performance.now() / 1000;
export const userInfo = () => ({ username: 'app', uid: 1000, gid: 1000, shell: null, homedir: '/' });
export const version = () => '';
export const constants = { signals: { SIGINT: 2, SIGTERM: 15 }, errno: {} };
export default {
  EOL,
  arch,
  availableParallelism,
  constants,
  cpus,
  devNull,
  endianness,
  freemem,
  homedir,
  hostname,
  loadavg,
  machine,
  networkInterfaces,
  platform,
  release,
  tmpdir,
  totalmem,
  type,
  uptime,
  userInfo,
  version,
};
