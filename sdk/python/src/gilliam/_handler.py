"""The export of a process that does jobs: `gilliam:worker/handler`."""

import importlib
import inspect

from componentize_py_types import Err
from wit_world.exports import handler as wit

from gilliam import _loop, _start
from gilliam._job import Discard, Job, RetryAfter

_function = []


class Handler:
    """Called once per job, in an instance of its own."""

    def handle(self, job):
        error = None
        try:
            _start.begin()
            if not _function:
                target = _start.target()
                _function.append(getattr(importlib.import_module(target["module"]), target["name"]))
            _call(_function[0], Job(bytes(job.payload), job.id, job.queue, job.attempt))
        except Discard as reason:
            error = wit.JobError_Discard(str(reason))
        except RetryAfter as reason:
            error = wit.JobError_RetryAfter(max(0, round(reason.seconds * 1000)))
        except SystemExit as end:
            if end.code not in (None, 0):
                error = wit.JobError_Retry(f"it ended with {end.code}")
        except BaseException as reason:
            _start.report()
            error = wit.JobError_Retry(f"{type(reason).__name__}: {reason}")
        finally:
            _start.flush()
        if error is not None:
            raise Err(error)


def _call(function, job):
    answer = function(job)
    if inspect.isawaitable(answer):
        _loop.run(_awaited(answer))


async def _awaited(answer):
    await answer
