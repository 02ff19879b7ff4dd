// A process that answers requests: finds what the script made for them, and calls it.
//
// The script is loaded by the first request of an instance, so that it sees the run's config.

import { Ended } from 'gilliam:ended';
import { begin, process, server } from 'gilliam:process';
import { trace } from 'gilliam:trace';

/** A script may say who answers a while after it was loaded: when its database is there. */
const LISTEN_MS_MAX = 10_000;

const listeners = [];
let ready;
/** What is called once while the component is built need not be compiled by each instance. */
const WARM = { default: () => undefined };

export function serve(load, program) {
  const listen = globalThis.addEventListener;
  globalThis.addEventListener = (type, listener) => {
    if (type === 'fetch')
      listeners.push(typeof listener === 'function' ? listener : (event) => listener.handleEvent(event));
  };
  listen('fetch', (event) => event.respondWith(answer(load, program, event)));
  prepare(async () => WARM, program).then((handler) => handler({}, {}));
}

async function answer(load, program, event) {
  try {
    const handler = await (ready ??= prepare(load, program));
    const response = await handler(event.request, event);
    if (!(response instanceof Response))
      throw new TypeError(`${program.script} answered with ${typeof response} instead of a Response`);
    return response;
  } catch (error) {
    if (!(error instanceof Ended)) console.error(trace(error));
    return new Response('Internal Server Error\n', {
      status: 500,
      headers: { 'content-type': 'text/plain' },
    });
  }
}

async function prepare(load, program) {
  begin(program);
  const module = await load();
  const exported = [module.default, module.default?.default, module].find(
    (value) => typeof value === 'function' || typeof value?.fetch === 'function',
  );
  const handler = exported && (typeof exported === 'function' ? exported : exported.fetch.bind(exported));
  if (handler) return (request, event) => handler(request, { ...process.env }, context(event));
  if (listeners.length) return byEvent;
  const late = new Promise((_, fail) =>
    setTimeout(fail, LISTEN_MS_MAX, new Error(`${program.script} answers no requests`)),
  );
  const listening = await Promise.race([server.promise, late]);
  return (request, event) => listening(request, { ...process.env }, context(event));
}

const context = (event) => ({
  waitUntil: (promise) => event.waitUntil(promise),
  passThroughOnException() {},
  props: {},
});

/** Calls the script's listeners until one answers. */
function byEvent(request, event) {
  return new Promise((answered, failed) => {
    let isAnswered = false;
    const given = {
      type: 'fetch',
      request,
      waitUntil: (promise) => event.waitUntil(promise),
      passThroughOnException() {},
      preventDefault() {},
      respondWith(response) {
        isAnswered = true;
        Promise.resolve(response).then(answered, failed);
      },
    };
    for (const listener of listeners) if (!isAnswered) listener(given);
    if (!isAnswered) failed(new Error('no listener called event.respondWith'));
  });
}
