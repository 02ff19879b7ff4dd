// A process that does jobs: the script's function `job` is called for each, in an instance of its own.
//
// What it throws is what becomes of the job; the script is loaded by the instance, so that it sees the run's config.

import { Discard, Job, RetryAfter } from 'gilliam';
import { Ended } from 'gilliam:ended';
import { begin } from 'gilliam:process';
import { trace } from 'gilliam:trace';

export async function handle(load, program, given) {
  try {
    begin(program);
    const module = await load();
    const handler = module.job ?? module.default?.job;
    if (typeof handler !== 'function') throw new TypeError(`${program.script} exports no function job`);
    await handler(new Job(given));
  } catch (error) {
    const word = wordOf(error);
    // What the platform raises for the guest is the payload of what is thrown.
    if (word) throw word;
  }
}

function wordOf(error) {
  if (error instanceof Discard) return { tag: 'discard', val: error.message };
  if (error instanceof RetryAfter) return { tag: 'retry-after', val: BigInt(error.ms) };
  if (error instanceof Ended) return error.code === 0 ? undefined : { tag: 'retry', val: error.message };
  console.error(trace(error));
  return { tag: 'retry', val: String(error?.message ?? error) };
}
