// The process of the registry's modules of Node.js is the program's own.
export { process as p } from 'gilliam:process';
