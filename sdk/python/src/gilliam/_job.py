"""Jobs as a handler sees them, and what it says of them by what it raises."""

import json


class Job:
    """One message of a queue, delivered at least once: its `id` is the same each time."""

    def __init__(self, payload, id="1", queue="test", attempt=1):
        """A job; the defaults are for tests. A payload that is not bytes is written as JSON."""
        self.id, self.queue, self.attempt = id, queue, attempt
        self.payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()

    def __repr__(self):
        return f"Job({self.payload!r}, id={self.id!r}, queue={self.queue!r}, attempt={self.attempt})"

    @property
    def text(self):
        """The payload as text."""
        return self.payload.decode("utf-8", "replace")

    def json(self):
        """The payload, read as JSON. A job whose payload is none is discarded: it never will be."""
        try:
            return json.loads(self.payload)
        except ValueError as error:
            raise Discard(f"the payload is not what the worker takes: {error}") from None


class Discard(Exception):
    """Raised by a handler: the job is never tried again, and goes among the dead letters."""


class RetryAfter(Exception):
    """Raised by a handler: the job is tried again, not before so many seconds."""

    def __init__(self, seconds):
        super().__init__(f"to be tried again after {seconds} s")
        self.seconds = seconds


def job(function):
    """Makes a function the handler of a queue's jobs: `python emails.py` is then called once per job.

    It takes a Job and may be `async`. What it returns is not looked at; what it raises says what becomes of the
    job: Discard, RetryAfter, and for anything else it is tried again when the queue's rule says so.
    """
    return function
