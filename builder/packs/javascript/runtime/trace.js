// Errors for people: stack traces name the lines of the sources instead of those of the bundle.

import { decode } from './mappings.mjs';

const NAME = /([^\s@(]*)@(?:\/?)app\.js:(\d+):(\d+)/;
/** The platform's own frames. */
const OWN = /initializer\.js|(^|\/)runtime\/|^gilliam/;

let lines;

function place(line, column) {
  const map = globalThis[Symbol.for('gilliam.map')];
  lines ??= decode(map.mappings);
  const segments = lines[line - 1] ?? [];
  const found = segments.findLast(([start]) => start <= column - 1) ?? segments[0];
  return found && `${map.sources[found[1]]}:${found[2] + 1}:${found[3] + 1}`;
}

/** The error as Node.js prints it. */
export function trace(error) {
  if (!(error instanceof Error))
    return `Uncaught ${typeof error === 'string' ? error : JSON.stringify(error)}`;
  const frames = [];
  for (const line of (error.stack ?? '').split('\n')) {
    const [, name, row, column] = NAME.exec(line) ?? [];
    const found = row && place(Number(row), Number(column));
    if (found && !OWN.test(found))
      frames.push(
        `    at ${/^(async\*)?[\w$.]+$/.test(name) ? `${name.replace('async*', 'async ')} (${found})` : found}`,
      );
  }
  const cause = error.cause === undefined ? '' : `\n  caused by: ${trace(error.cause)}`;
  return [`${error.name}: ${error.message}`, ...frames].join('\n') + cause;
}
