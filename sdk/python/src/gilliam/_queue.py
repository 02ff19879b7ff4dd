"""The app's queues: putting jobs, and taking them in a loop of one's own."""

import base64
from urllib.parse import quote

from gilliam._call import call, call_json, encode, query
from gilliam._job import Discard, Job, RetryAfter
from gilliam._stop import is_stopping

# Jobs that go together, as many as the platform takes at once.
TOGETHER = 1000
# How long one call waits for jobs: what asks the program to end is heard in between.
WAIT_MS = 5000
# Characters of a reason: the platform keeps a kilobyte.
REASON_MAX = 250


class Queue:
    """A queue of this app; it is there with its first job."""

    def __init__(self, name):
        self.name = name
        self._origin = f"http://queues.internal/{quote(name, safe='')}"

    def put(self, payload, *, key=None, delay=None, priority=None, attempts=None):
        """Puts a job, as JSON unless it is bytes; answers `{"id", "new"}` when it is durable. `delay` is in seconds."""
        asked = query(**_asked(key, delay, priority, attempts))
        return call("POST", f"{self._origin}/jobs{asked}", body=encode(payload)).json()

    def put_all(self, payloads, *, delay=None, priority=None, attempts=None):
        """Puts many jobs: of each thousand all or none. Answers `{"id", "new"}` for each."""
        asked = _asked(None, delay, priority, attempts)
        asked = {name: value for name, value in asked.items() if value is not None}
        jobs = [{"payload": base64.b64encode(encode(payload)).decode(), **asked} for payload in payloads]
        queued = []
        for at in range(0, len(jobs), TOGETHER):
            queued += call_json(f"{self._origin}/batch", jobs[at : at + TOGETHER])["jobs"]
        return queued

    def receive(self):
        """The jobs of the queue, for a program with a loop: `for taken in queue("emails").receive(): …`.

        It ends when the platform asks the program to.
        """
        while not is_stopping():
            for job in call("POST", f"{self._origin}/take{query(max=1, wait_ms=WAIT_MS)}").json()["jobs"]:
                yield Taken(self, job)


class Taken:
    """A job that this program has until its lease ends, 60 s after it was taken unless it is extended."""

    def __init__(self, queue, job):
        payload = base64.b64decode(job["payload"])
        self.job = Job(payload, job["id"], queue.name, job["attempt"])
        self._origin, self._lease = f"{queue._origin}/jobs/{job['id']}", job["lease"]

    def _say(self, word, reason="", **more):
        url = f"{self._origin}/{word}{query(lease=self._lease, **more)}"
        call("POST", url, body=str(reason)[:REASON_MAX])

    def done(self):
        """It is done."""
        self._say("done")

    def retry(self, reason, after=None):
        """It is tried again, when the queue's rule says so or not before `after` seconds."""
        self._say("retry", reason, after_ms=None if after is None else round(after * 1000))

    def discard(self, reason):
        """It goes among the dead letters."""
        self._say("discard", reason)

    def extend(self, seconds):
        """Keeps it for so long from now."""
        self._say("extend", for_ms=round(seconds * 1000))

    def run(self, handler):
        """Does it with a handler, and says what became of it, as for a process that is called per job."""
        try:
            handler(self.job)
        except Discard as reason:
            self.discard(reason)
        except RetryAfter as reason:
            self.retry(reason, reason.seconds)
        except Exception as reason:
            self.retry(f"{type(reason).__name__}: {reason}")
        else:
            self.done()


def _asked(key, delay, priority, attempts):
    delay_ms = None if delay is None else round(delay * 1000)
    return {"key": key, "delay_ms": delay_ms, "priority": priority, "attempts": attempts}


def queue(name):
    """A queue of this app."""
    return Queue(name)
