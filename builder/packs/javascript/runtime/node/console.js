// node:console: the global one.
export const { log, info, warn, error, debug, trace } = console;
export class Console {
  constructor() {
    return console;
  }
}
export default console;
