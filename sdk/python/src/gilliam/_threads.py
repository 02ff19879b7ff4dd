"""In place of threads, which there are none of: what would be done in one is done at once."""

import asyncio
import concurrent.futures
import socketserver
import sys


def install():
    """Lets servers, executors and event loops do without threads."""
    socketserver.ThreadingMixIn.process_request = socketserver.BaseServer.process_request
    concurrent.futures.ThreadPoolExecutor.submit = _submit
    asyncio.BaseEventLoop.shutdown_default_executor = _shutdown_default_executor
    if "anyio" in sys.modules:
        import anyio.to_thread

        anyio.to_thread.run_sync = _run_sync


def _submit(self, function, /, *args, **kwargs):
    future = concurrent.futures.Future()
    try:
        future.set_result(function(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)
    return future


async def _shutdown_default_executor(self, timeout=None):
    self._executor_shutdown_called = True


async def _run_sync(function, *args, abandon_on_cancel=False, cancellable=None, limiter=None):
    return function(*args)
