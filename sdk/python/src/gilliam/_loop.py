"""An event loop for what is called: nothing wakes it from outside, so it needs no socket to itself."""

import asyncio


class Loop(asyncio.SelectorEventLoop):
    """A loop of one thread, without signals: there is nobody who would write to its pipe."""

    def _make_self_pipe(self):
        pass

    def _close_self_pipe(self):
        pass

    def _write_to_self(self):
        pass


def run(coroutine):
    """Runs a coroutine to its end."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(coroutine)
