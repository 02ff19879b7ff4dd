// What modules of other places look for while they are loaded.
globalThis.navigator ??= {
  hardwareConcurrency: 1,
  language: 'en-US',
  languages: ['en-US'],
  platform: 'linux',
  userAgent: 'Node.js/22',
};

/** A line of a stack trace as V8's programs read it. */
class CallSite {
  constructor(line) {
    [, this.name, this.file, this.line, this.column] = /^(.*?)@(.*?)(?::(\d+))?(?::(\d+))?$/.exec(line) ?? [];
  }
  getFileName = () => this.file;
  getScriptNameOrSourceURL = () => this.file;
  getLineNumber = () => Number(this.line);
  getColumnNumber = () => Number(this.column);
  getFunctionName = () => this.name || null;
  getMethodName = () => null;
  getTypeName = () => null;
  getFunction = () => undefined;
  getThis = () => undefined;
  getEvalOrigin = () => undefined;
  isEval = () => false;
  isNative = () => false;
  isConstructor = () => false;
  isToplevel = () => true;
  isAsync = () => false;
  toString = () => `${this.name} (${this.file}:${this.line}:${this.column})`;
}

Error.captureStackTrace = (target) => {
  const lines = new Error().stack.split('\n').filter(Boolean).slice(1);
  const prepare = Error.prepareStackTrace;
  const value =
    typeof prepare === 'function'
      ? prepare(
          target,
          lines.map((line) => new CallSite(line)),
        )
      : lines.join('\n');
  Object.defineProperty(target, 'stack', { configurable: true, writable: true, value });
};
