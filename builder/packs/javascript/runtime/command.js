// A process that runs to its end: the script, then what it left waiting.

import { exit } from 'wasi:cli/exit@0.2.10';
import { idle } from 'gilliam:alive';
import { Ended } from 'gilliam:ended';
import { begin, process } from 'gilliam:process';
import { trace } from 'gilliam:trace';

export async function start(load, program) {
  begin(program);
  try {
    await load();
    await idle();
    process.emit('beforeExit', Number(process.exitCode ?? 0));
    await idle();
  } catch (error) {
    end(error);
  }
  process.emit('exit', Number(process.exitCode ?? 0));
  if (Number(process.exitCode ?? 0) !== 0) exit({ tag: 'err' });
}

/** Ends the process at once. */
function end(error) {
  if (!(error instanceof Ended)) console.error(trace(error));
  exit({ tag: error instanceof Ended && error.code === 0 ? 'ok' : 'err' });
}
