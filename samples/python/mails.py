"""Does the jobs of the queue `mails`: the platform calls the function once for each."""

from gilliam import Discard, RetryAfter, job, log


@job
async def send(job):
    mail = job.json()
    if "@" not in mail.get("to", ""):
        raise Discard(f"{mail.get('to')!r} is no address")
    if mail.get("busy") and job.attempt == 1:
        raise RetryAfter(0.01)
    log.info(f"mail {job.id} sent to {mail['to']} at attempt {job.attempt}")
