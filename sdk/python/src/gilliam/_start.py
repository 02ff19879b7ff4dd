"""The start of an instance: the app's config is there, the project's code runs.

`Run` is the export of a process that runs until it ends. `application` is what answers requests.
"""

import importlib
import io
import os
import runpy
import sys
import traceback
import types

from componentize_py_types import Err

from gilliam import _files, _listening

_order = {}
_path = []
_is_begun = []


def remember(order, path):
    """Keeps for the instance what the build knows."""
    _order.update(order)
    _path[:] = path


def begin():
    """What is done once in an instance, before anything of the project."""
    if _is_begun:
        return
    _is_begun.append(True)
    sys.path[:] = _path
    sys.path_importer_cache.clear()
    _files.enter("/app")
    # One call of the platform for a line, not for each piece of it.
    sys.stdout = _text_stream(1)
    sys.stderr = _text_stream(2)
    os.environ.setdefault("HOME", "/app")
    if folder := _order.get("folder"):
        sys.path.insert(0, f"/app/{folder}")
    if folder := _order.get("chdir"):
        _files.enter(f"/app/{folder}")


def _text_stream(number):
    raw = io.FileIO(number, "w", closefd=False)
    name = {1: "<stdout>", 2: "<stderr>"}[number]
    stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
    stream.mode, raw.name = "w", name
    return stream


def target():
    """What of the project is called."""
    return _order["target"]


def application():
    """Runs the project's module and finds what answers requests in it."""
    target = _order["target"]
    module = importlib.import_module(target["module"])
    found = module
    for name in target["name"].split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise RuntimeError(f"{target['module']} has no {target['name']}") from None
    return found(*target["arguments"]) if target.get("is_factory") else found


def is_wsgi(application):
    """Whether it is a WSGI application rather than a handler: it takes an environment and a function."""
    return _order["target"].get("callable") != "handler"


def report():
    """Writes the exception that is being handled to the log, without the frames that are ours."""
    error = sys.exception()
    frame = error.__traceback__
    while frame is not None and _is_ours(frame.tb_frame):
        frame = frame.tb_next
    traceback.print_exception(type(error), error, frame or error.__traceback__)


def _is_ours(frame):
    name = frame.f_code.co_filename
    return "/gilliam/_" in name or name.startswith("<frozen ")


def flush():
    """Hands over what was printed without a line's end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


def _main():
    target = _order["target"]
    if _order["kind"] == "asgi":
        from gilliam import _asgi

        return _asgi.serve(application, int(os.environ.get("PORT", "8000")))
    if "script" in target:
        return _run_script(f"/app/{target['script']}")
    return runpy.run_module(target["run"], run_name="__main__", alter_sys=True)


def _run_script(path):
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    module = types.ModuleType("__main__")
    module.__file__, module.__loader__, module.__builtins__ = path, loader, __builtins__
    sys.modules["__main__"] = module
    exec(loader.get_code("__main__"), module.__dict__)


class Run:
    """The export `wasi:cli/run`."""

    def run(self):
        begin()
        _listening.begin(_order["process"])
        failed = False
        try:
            _main()
        except SystemExit as error:
            failed = error.code not in (None, 0)
            if failed and not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
        except BaseException:
            report()
            failed = True
        flush()
        if failed:
            raise Err(None)
