// Blob services. Names may have slashes.

import { call, pages } from './call.js';

/** A blob service of the app, by its name in `[services]` of gilliam.toml. */
export function blobs(name) {
  const origin = `http://${name}.internal`;
  const of = (name) => `${origin}/${name.split('/').map(encodeURIComponent).join('/')}`;

  async function found(name, init) {
    const answer = await call(of(name), init, 404);
    if (answer.status !== 404) return answer;
    await answer.arrayBuffer();
    return undefined;
  }

  return {
    /** Writes a blob, in place of one of its name: bytes, text, or a stream. */
    async put(name, content) {
      await call(of(name), { method: 'PUT', body: content, duplex: 'half' });
    },

    /** A whole blob as bytes, or the bytes from `start` up to but without `end`; undefined when there is none. */
    async get(name, { start, end } = {}) {
      const range = start === undefined ? {} : { range: `bytes=${start}-${end === undefined ? '' : end - 1}` };
      const answer = await found(name, { headers: range });
      return answer && new Uint8Array(await answer.arrayBuffer());
    },

    /** A blob as a stream; undefined when there is none. */
    async open(name) {
      return (await found(name))?.body;
    },

    /** The size of a blob; undefined when there is none. */
    async size(name) {
      const length = (await found(name, { method: 'HEAD' }))?.headers.get('content-length');
      return length === undefined || length === null ? undefined : Number(length);
    },

    /** Removes a blob; there may be none. */
    async delete(name) {
      await found(name, { method: 'DELETE' });
    },

    /** The blobs whose names begin so, in their order, each with `name` and `bytes`. */
    list: (prefix = '') => pages(origin, prefix, 'objects'),
  };
}
