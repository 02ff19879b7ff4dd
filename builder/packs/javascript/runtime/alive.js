// Knows whether a script still waits for something: the engine itself ends with the promise that it is given.
//
// Timers, and promises that the host will settle: answers to fetch, and their bodies.

let waiting = 0;
let empty = Promise.withResolvers();
let failure;

function one() {
  waiting++;
}

function done() {
  if (--waiting === 0) empty.resolve();
}

const natural = { setTimeout, setInterval, clearTimeout, clearInterval, fetch };
const timers = new Map();

/** A callback that throws ends the process, as in Node.js. */
function guarded(task, args) {
  try {
    task(...args);
  } catch (error) {
    failure = { error };
    empty.resolve();
  }
}

class Timer {
  constructor(id) {
    this.id = id;
    this.counts = true;
  }
  ref() {
    if (!this.counts && timers.has(this.id)) one();
    this.counts = true;
    return this;
  }
  unref() {
    if (this.counts && timers.has(this.id)) done();
    this.counts = false;
    return this;
  }
  hasRef() {
    return this.counts;
  }
  [Symbol.toPrimitive]() {
    return this.id;
  }
}

function forget(id) {
  const timer = timers.get(id);
  if (timer && timers.delete(id) && timer.counts) done();
}

globalThis.setTimeout = (task, ms = 0, ...args) => {
  const id = natural.setTimeout(
    () => {
      guarded(task, args);
      forget(id);
    },
    Math.max(0, Number(ms) || 0),
  );
  const timer = new Timer(id);
  timers.set(id, timer);
  one();
  return timer;
};
globalThis.setInterval = (task, ms = 0, ...args) => {
  const id = natural.setInterval(() => guarded(task, args), Math.max(1, Number(ms) || 0));
  const timer = new Timer(id);
  timers.set(id, timer);
  one();
  return timer;
};
const clear = (timer) => {
  if (timer === undefined || timer === null) return;
  const id = Number(timer);
  forget(id);
  natural.clearTimeout(id);
};
globalThis.clearTimeout = clear;
globalThis.clearInterval = clear;

function counted(promise) {
  one();
  promise.then(later, later);
  return promise;
}

/** After what waits for the promise has had its turn. */
function later() {
  natural.setTimeout(done, 0);
}

globalThis.fetch = (...words) => counted(natural.fetch(...words));
for (const kind of [Response, Request]) {
  for (const name of ['arrayBuffer', 'blob', 'bytes', 'formData', 'json', 'text']) {
    const own = kind.prototype[name];
    if (own)
      kind.prototype[name] = function read(...words) {
        return counted(own.apply(this, words));
      };
  }
}
const reader = Object.getPrototypeOf(new ReadableStream().getReader());
const read = reader.read;
reader.read = function counting(...words) {
  return counted(read.apply(this, words));
};

/** Resolves when nothing is waited for any more; fails with what a callback threw. */
export async function idle() {
  for (;;) {
    if (failure) throw failure.error;
    if (waiting === 0) {
      await new Promise((resolve) => natural.setTimeout(resolve, 0));
      if (waiting === 0 && !failure) return;
      continue;
    }
    empty = Promise.withResolvers();
    await empty.promise;
  }
}
