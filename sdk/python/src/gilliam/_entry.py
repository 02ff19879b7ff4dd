"""What the component is made from: its exports, and what happens once, while it is built.

The build puts an `order.json` beside the folders `app` (the project) and `site` (its packages). Everything
here runs before the snapshot is taken, with none of the app's config: files are taken into memory, libraries
are imported. The project's own code runs in the instance, in `_start`.
"""

import gc
import json
import os
import sys

from gilliam import _files, _libraries

# Folders of the standard library that no server needs: editors, installers, demonstrations.
NEVER = ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "venv")
LIBRARY, APP, SITE = "/python", "/app", "/site"


def _build_folder():
    for folder in sys.path:
        try:
            with open(f"{folder}/order.json", encoding="utf-8") as file:
                return folder, json.load(file)
        except OSError:
            continue
    raise SystemExit("there is no order.json on the path")


def _take_files(folder):
    for name in sorted(os.listdir(LIBRARY)):
        place = f"{LIBRARY}/{name}"
        if os.path.isdir(place) and name not in NEVER:
            _files.add_tree(place, place, compress=True, keep=lambda name: name.endswith(".py"))
        elif name.endswith(".py"):
            with open(place, "rb") as file:
                _files.add(place, file.read(), compress=True)
    _files.add_tree(f"{folder}/app", APP)
    _files.add_tree(f"{folder}/site", SITE, compress=True)


def _prepare():
    folder, order = _build_folder()
    built = list(sys.path)
    _libraries.before()
    from gilliam import _ahead, _start

    _take_files(folder)
    _files.install()
    sys.dont_write_bytecode = True
    sys.path[:] = [SITE, LIBRARY, *built]
    sys.path_importer_cache.clear()
    report = _ahead.load(order)
    _start.remember(order, [APP, SITE, LIBRARY])
    if report["wrong"] or report["notes"]:
        with open(f"{folder}/report.json", "w", encoding="utf-8") as file:
            json.dump(report, file)
    if report["wrong"]:
        raise SystemExit("see report.json")
    sys.path_importer_cache.clear()
    gc.collect()
    # What is there now stays: the collector of an instance need not touch it.
    gc.freeze()
    return order


_order = _prepare()

from gilliam._incoming import IncomingHandler  # noqa: E402
from gilliam._start import Run  # noqa: E402

__all__ = ["IncomingHandler", "Run"]

if _order["kind"] == "job":
    # The types of its world are there in no other.
    from gilliam._handler import Handler  # noqa: F401

    __all__.append("Handler")
