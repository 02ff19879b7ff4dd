// Jobs as a handler sees them, and what it says of them by what it throws.

/** One message of a queue, delivered at least once: its `id` is the same each time. */
export class Job {
  constructor({ id, queue, attempt, payload }) {
    /** The same at every attempt. */
    this.id = id;
    /** The queue it was sent to. */
    this.queue = queue;
    /** 1 at the first attempt. */
    this.attempt = attempt;
    /** What the sender sent, as bytes. */
    this.payload = payload;
  }

  /** The payload as text. */
  text() {
    return new TextDecoder().decode(this.payload);
  }

  /** The payload, read as JSON. A job whose payload is none is discarded: it never will be. */
  json() {
    try {
      return JSON.parse(this.text());
    } catch (error) {
      throw new Discard(`the payload is not what the worker takes: ${error.message}`);
    }
  }
}

/** Thrown by a handler: the job is never tried again, and goes among the dead letters. */
export class Discard extends Error {
  constructor(reason) {
    super(reason);
    this.name = 'Discard';
  }
}

/** Thrown by a handler: the job is tried again, not before so many milliseconds. */
export class RetryAfter extends Error {
  constructor(ms) {
    super(`to be tried again after ${ms} ms`);
    this.name = 'RetryAfter';
    this.ms = Math.max(0, Math.round(Number(ms) || 0));
  }
}
