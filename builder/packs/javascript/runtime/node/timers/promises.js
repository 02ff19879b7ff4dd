// node:timers/promises over the engine's timers.
export function setTimeout(ms, value, { signal } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = globalThis.setTimeout(resolve, ms, value);
    signal?.addEventListener('abort', () => {
      globalThis.clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
export const setImmediate = (value) => setTimeout(0, value);
export async function* setInterval(ms, value) {
  for (;;) yield await setTimeout(ms, value);
}
export const scheduler = { wait: (ms) => setTimeout(ms), yield: () => setTimeout(0) };
export default { scheduler, setImmediate, setInterval, setTimeout };
