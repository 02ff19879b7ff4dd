// node:timers over the engine's timers.
const { clearInterval, clearTimeout, setInterval, setTimeout } = {
  clearInterval: (timer) => globalThis.clearInterval(timer),
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
  setInterval: (...words) => globalThis.setInterval(...words),
  setTimeout: (...words) => globalThis.setTimeout(...words),
};
export const setImmediate = (task, ...args) => globalThis.setTimeout(task, 0, ...args);
export const clearImmediate = clearTimeout;
export { clearInterval, clearTimeout, setInterval, setTimeout };
export * as promises from 'node:timers/promises';
export default { clearImmediate, clearInterval, clearTimeout, setImmediate, setInterval, setTimeout };
