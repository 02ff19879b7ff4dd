// node:crypto: digests and keyed digests at once, random numbers, and the engine's Web Crypto for all else.
import { Buffer } from 'node:buffer';
import { hmac } from '@noble/hashes/hmac';
import { md5, ripemd160, sha1 } from '@noble/hashes/legacy';
import { pbkdf2 as derive } from '@noble/hashes/pbkdf2';
import { scrypt as mix } from '@noble/hashes/scrypt';
import { sha224, sha256, sha384, sha512 } from '@noble/hashes/sha2';
import { sha3_256, sha3_512 } from '@noble/hashes/sha3';

const HASHES = {
  md5,
  ripemd160,
  sha1,
  sha224,
  sha256,
  sha384,
  sha512,
  'sha3-256': sha3_256,
  'sha3-512': sha3_512,
};

function algorithm(name) {
  const key = String(name)
    .toLowerCase()
    .replace(/^rsa-/, '')
    .replace(/^sha-(?=\d)/, 'sha');
  if (!HASHES[key])
    throw Object.assign(new Error(`Digest method not supported: ${name}`), {
      code: 'ERR_CRYPTO_INVALID_DIGEST',
    });
  return HASHES[key];
}

const bytes = (data, encoding) =>
  typeof data === 'string'
    ? Buffer.from(data, encoding)
    : new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
const encoded = (data, encoding) => {
  const buffer = Buffer.from(data);
  return encoding && encoding !== 'buffer' ? buffer.toString(encoding) : buffer;
};

export class Hash {
  constructor(state) {
    this.state = state;
  }
  update(data, encoding) {
    this.state.update(bytes(data, encoding));
    return this;
  }
  digest(encoding) {
    return encoded(this.state.digest(), encoding);
  }
  copy() {
    return new Hash(this.state.clone());
  }
}
export class Hmac extends Hash {}

export const createHash = (name) => new Hash(algorithm(name).create());
export const createHmac = (name, key) => new Hmac(hmac.create(algorithm(name), bytes(key)));
export const hash = (name, data, encoding = 'hex') => createHash(name).update(data).digest(encoding);
export const getHashes = () => Object.keys(HASHES);
export const webcrypto = globalThis.crypto;
export const subtle = webcrypto.subtle;
export const getRandomValues = (array) => webcrypto.getRandomValues(array);
export const randomUUID = () => webcrypto.randomUUID();

/** What one call of the engine fills. */
const RANDOM_BYTES_MAX = 65_536;
export function randomFillSync(array) {
  const all = bytes(array);
  for (let at = 0; at < all.length; at += RANDOM_BYTES_MAX)
    webcrypto.getRandomValues(all.subarray(at, at + RANDOM_BYTES_MAX));
  return array;
}
export function randomBytes(length, done) {
  const made = randomFillSync(Buffer.alloc(length));
  if (!done) return made;
  queueMicrotask(() => done(null, made));
  return undefined;
}
export function randomInt(low, high, done) {
  const [from, to] = typeof high === 'number' ? [low, high] : [0, low];
  const span = to - from;
  const most = 2 ** 48 - (2 ** 48 % span);
  let value;
  do value = randomBytes(6).readUIntBE(0, 6);
  while (value >= most);
  const called = typeof high === 'function' ? high : done;
  if (!called) return from + (value % span);
  queueMicrotask(() => called(null, from + (value % span)));
  return undefined;
}
export function timingSafeEqual(one, other) {
  const [a, b] = [bytes(one), bytes(other)];
  if (a.length !== b.length) throw new RangeError('Input buffers must have the same byte length');
  let differ = 0;
  for (let i = 0; i < a.length; i++) differ |= a[i] ^ b[i];
  return differ === 0;
}
export const pbkdf2Sync = (password, salt, rounds, length, name = 'sha1') =>
  Buffer.from(derive(algorithm(name), bytes(password), bytes(salt), { c: rounds, dkLen: length }));
export const pbkdf2 = (password, salt, rounds, length, name, done) =>
  queueMicrotask(() => done(null, pbkdf2Sync(password, salt, rounds, length, name)));
export const scryptSync = (password, salt, length, { N, cost, r, blockSize, p, parallelization } = {}) =>
  Buffer.from(
    mix(bytes(password), bytes(salt), {
      N: N ?? cost ?? 16384,
      r: r ?? blockSize ?? 8,
      p: p ?? parallelization ?? 1,
      dkLen: length,
    }),
  );
export const scrypt = (password, salt, length, options, done = options) =>
  queueMicrotask(() =>
    done(null, scryptSync(password, salt, length, typeof options === 'object' ? options : {})),
  );
export const constants = {};
export default {
  Hash,
  Hmac,
  constants,
  createHash,
  createHmac,
  getHashes,
  getRandomValues,
  hash,
  pbkdf2,
  pbkdf2Sync,
  randomBytes,
  randomFillSync,
  randomInt,
  randomUUID,
  scrypt,
  scryptSync,
  subtle,
  timingSafeEqual,
  webcrypto,
};
