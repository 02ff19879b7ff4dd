// Globals of Node.js that a module gets when it names them.
export { Buffer } from 'node:buffer';
export { clearImmediate, setImmediate } from 'node:timers';
