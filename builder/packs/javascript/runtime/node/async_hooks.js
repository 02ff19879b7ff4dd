// node:async_hooks. The engine does not follow a value through promises: the store holds it while `run` runs, which
// in an instance that answers one request at a time is until its promise settles.
export class AsyncLocalStorage {
  #value;
  run(value, task, ...args) {
    const before = this.#value;
    this.#value = value;
    const back = () => {
      this.#value = before;
    };
    let result;
    try {
      result = task(...args);
    } catch (error) {
      back();
      throw error;
    }
    if (typeof result?.then === 'function') result.then(back, back);
    else if (before !== undefined) back();
    return result;
  }
  enterWith(value) {
    this.#value = value;
  }
  exit(task, ...args) {
    return this.run(undefined, task, ...args);
  }
  getStore() {
    return this.#value;
  }
  disable() {
    this.#value = undefined;
  }
  static bind(task) {
    return task;
  }
  static snapshot() {
    return (task, ...args) => task(...args);
  }
}
export class AsyncResource {
  constructor(type) {
    this.type = type;
  }
  runInAsyncScope(task, self, ...args) {
    return task.apply(self, args);
  }
  bind(task) {
    return task;
  }
  emitDestroy() {
    return this;
  }
  asyncId = () => 0;
  triggerAsyncId = () => 0;
  static bind(task) {
    return task;
  }
}
export const createHook = () => ({ enable() {}, disable() {} });
export const executionAsyncId = () => 0;
export const triggerAsyncId = () => 0;
export const executionAsyncResource = () => ({});
export default {
  AsyncLocalStorage,
  AsyncResource,
  createHook,
  executionAsyncId,
  executionAsyncResource,
  triggerAsyncId,
};
