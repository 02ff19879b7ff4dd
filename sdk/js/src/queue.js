// The app's queues: putting jobs, and taking them in a loop of one's own.

import { call, encode, post, postJson, query } from './call.js';
import { Discard, Job, RetryAfter } from './job.js';

/** Jobs that go together, as many as the platform takes at once. */
const TOGETHER = 1000;
/** How long one call waits for jobs. */
const WAIT_MS = 20_000;
/** Characters of a reason: the platform keeps a kilobyte. */
const REASON_MAX = 250;
const PIECE = 0x8000;

const reasonOf = (error) => String(error?.message ?? error).slice(0, REASON_MAX);

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += PIECE) {
    text += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  }
  return btoa(text);
}

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

const asked = ({ key, delayMs, priority, attempts } = {}) => ({
  key,
  delay_ms: delayMs === undefined ? undefined : Math.round(delayMs),
  priority,
  attempts,
});

/** A queue of this app; it is there with its first job. */
export function queue(name) {
  const origin = `http://queues.internal/${encodeURIComponent(name)}`;
  return {
    /** Puts a job, as JSON unless it is bytes; answers `{ id, new }` when it is durable. */
    async put(payload, options) {
      return (await post(`${origin}/jobs${query(asked(options))}`, encode(payload))).json();
    },

    /** Puts many jobs: of each thousand all or none. Answers `{ id, new }` for each. */
    async putAll(payloads, options) {
      const all = [...payloads];
      const queued = [];
      for (let at = 0; at < all.length; at += TOGETHER) {
        const some = all.slice(at, at + TOGETHER);
        const jobs = some.map((payload) => ({ payload: base64(encode(payload)), ...asked(options) }));
        queued.push(...(await (await postJson(`${origin}/batch`, jobs)).json()).jobs);
      }
      return queued;
    },

    /** The jobs of the queue, for a program with a loop: `for await (const taken of queue('emails').receive())`. */
    async *receive() {
      for (;;) {
        const answer = await post(`${origin}/take${query({ max: 1, wait_ms: WAIT_MS })}`);
        for (const job of (await answer.json()).jobs) yield new Taken(origin, name, job);
      }
    },
  };
}

/** A job that this program has until its lease ends, 60 s after it was taken unless it is extended. */
class Taken {
  #word;

  constructor(origin, queue, { id, lease, attempt, payload }) {
    this.job = new Job({ id, queue, attempt, payload: bytesOf(payload) });
    this.#word = (word, more, reason) =>
      call(`${origin}/jobs/${id}/${word}${query({ lease, ...more })}`, { method: 'POST', body: reason });
  }

  /** It is done. */
  async done() {
    await this.#word('done');
  }

  /** It is tried again, when the queue's rule says so or not before `ms`. */
  async retry(reason, ms) {
    await this.#word('retry', { after_ms: ms }, reasonOf(reason));
  }

  /** It goes among the dead letters. */
  async discard(reason) {
    await this.#word('discard', {}, reasonOf(reason));
  }

  /** Keeps it for so long from now. */
  async extend(ms) {
    await this.#word('extend', { for_ms: Math.round(ms) });
  }

  /** Does it with a handler, and says what became of it, as for a process that is called per job. */
  async run(handler) {
    try {
      await handler(this.job);
    } catch (error) {
      if (error instanceof Discard) return this.discard(error);
      if (error instanceof RetryAfter) return this.retry(error, error.ms);
      return this.retry(error);
    }
    return this.done();
  }
}

