// Does the jobs of the queue `mails`: the platform calls `job` once for each.
import { Discard, RetryAfter, log } from 'gilliam';

export async function job(job) {
  const { to, busy } = job.json();
  if (!to?.includes('@')) throw new Discard(`${JSON.stringify(to)} is no address`);
  if (busy && job.attempt === 1) throw new RetryAfter(10);
  log.info(`mail ${job.id} sent to ${to} at attempt ${job.attempt}`);
}
