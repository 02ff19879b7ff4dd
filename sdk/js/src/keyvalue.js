// Key-value services. Values are JSON unless bytes are asked for.

import { call, encode, pages, post, query } from './call.js';

/** A key-value service of the app, by its name in `[services]` of gilliam.toml. */
export function keyvalue(name) {
  const origin = `http://${name}.internal`;
  const of = (key) => `${origin}/${encodeURIComponent(key)}`;

  async function found(key) {
    const answer = await call(of(key), undefined, 404);
    if (answer.status !== 404) return answer;
    await answer.arrayBuffer();
    return undefined;
  }

  return {
    /** The value of a key; undefined when it has none. */
    async get(key) {
      return (await found(key))?.json();
    },

    /** The bytes of a key; undefined when it has none. */
    async getBytes(key) {
      const answer = await found(key);
      return answer && new Uint8Array(await answer.arrayBuffer());
    },

    /** The value of a key with its version, for `ifStill`; undefined when it has none. */
    async entry(key) {
      const answer = await found(key);
      return answer && { value: await answer.json(), version: answer.headers.get('etag') };
    },

    /** Sets a key. Answers whether it is set, which is false only when `ifStill` or `ifAbsent` does not hold. */
    async set(key, value, { ttlMs, ifStill, ifAbsent } = {}) {
      const headers = {};
      if (ifStill !== undefined) headers['if-match'] = ifStill;
      if (ifAbsent) headers['if-none-match'] = '*';
      const ttl = ttlMs === undefined ? undefined : `${Math.round(ttlMs)}ms`;
      const init = { method: 'PUT', body: encode(value), headers };
      return (await call(`${of(key)}${query({ ttl })}`, init, 412)).status !== 412;
    },

    /** Removes a key; it may have had no value. */
    async delete(key) {
      await call(of(key), { method: 'DELETE' }, 404);
    },

    /** Adds to a number, which is 0 when there is none, in one step; answers the sum. */
    async increment(key, by = 1) {
      return (await post(`${of(key)}${query({ increment: by })}`)).json();
    },

    /** The keys that begin so, in their order: `for await (const key of cache.keys('user/'))`. */
    keys: (prefix = '') => pages(origin, prefix, 'keys'),
  };
}
