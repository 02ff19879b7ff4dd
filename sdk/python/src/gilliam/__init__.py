"""Python on gilliam: what a web process answers with, how jobs are put and done, the app's services, and others.

from gilliam import Response

def handle(request):
    return Response("hello\\n")
"""

from gilliam._call import GilliamError, app
from gilliam._config import config, log
from gilliam._fetch import fetch
from gilliam._job import Discard, Job, RetryAfter, job
from gilliam._message import Headers, Request, Response
from gilliam._queue import queue
from gilliam._services import blobs, keyvalue, sql
from gilliam._stop import is_stopping

__all__ = [
    "Discard",
    "GilliamError",
    "Headers",
    "Job",
    "Request",
    "Response",
    "RetryAfter",
    "app",
    "blobs",
    "config",
    "fetch",
    "is_stopping",
    "job",
    "keyvalue",
    "log",
    "queue",
    "sql",
]
