// node:perf_hooks over the engine's clock.
export const { performance } = globalThis;
export class PerformanceObserver {
  observe() {}
  disconnect() {}
}
export const monitorEventLoopDelay = () => ({ enable() {}, disable() {}, mean: 0, max: 0, min: 0 });
export default { PerformanceObserver, monitorEventLoopDelay, performance };
