"""Has componentize-py make the component, and says what it found in the project."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from wrong import Wrong, say

# Components of earlier builds that are kept: one for each process of an app, and of the release before.
KEPT_MAX = 6
# Lines of the tool's own output that are shown when it failed for a reason of its own.
LINES_MAX = 30
# Folder and world of each kind.
WORLDS = {
    "requests": ("app", "http"),
    "command": ("app", "command"),
    "asgi": ("app", "command"),
    "job": ("worker", "worker"),
}


def make(stage, plan):
    """Builds the component of a filled stage, or takes the one that an equal stage gave before."""
    (stage / "site").mkdir(exist_ok=True)
    asked = {key: value for key, value in plan.items() if key not in ("arguments", "says")}
    (stage / "order.json").write_text(json.dumps(asked, sort_keys=True), encoding="utf-8")
    folder, world = WORLDS[plan["kind"]]
    kept = Path(os.environ["GILLIAM_CACHE"], "components")
    kept.mkdir(exist_ok=True)
    known = kept / f"{_fingerprint(stage, world)}.wasm"
    out = Path(os.environ["GILLIAM_OUT"])
    if known.is_file():
        os.utime(known)
        say("nothing has changed: the component is that of an earlier build")
    else:
        _run(stage, folder, world, known)
        for old in sorted(kept.glob("*.wasm"), key=lambda file: file.stat().st_mtime)[:-KEPT_MAX]:
            old.unlink()
    shutil.copyfile(known, out)


def _fingerprint(stage, world):
    """What the component depends on: the stage, our own files and the tool's version."""
    sums = hashlib.sha256(world.encode())
    sums.update(os.environ["GILLIAM_COMPONENTIZE"].rpartition("/")[2].encode())
    for root in (stage, Path(os.environ["GILLIAM_PACK"]), Path(os.environ["GILLIAM_WIT"])):
        for path in sorted(root.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                sums.update(f"{path.relative_to(root)}\0{len(data)}\0".encode())
                sums.update(data)
    return sums.hexdigest()


def _run(stage, folder, world, out):
    made = out.with_suffix(".new")
    # Without it the tool would take the packages of the interpreter that it runs in.
    none = stage / "none"
    (none / "lib" / "python3" / "site-packages").mkdir(parents=True)
    environment = dict(os.environ, VIRTUAL_ENV=str(none), RUST_BACKTRACE="0")
    sdk = Path(os.environ["GILLIAM_PACK"], "sdk")
    # Its files get folders for compiled code beside them.
    shutil.copytree(sdk, stage / "sdk", copy_function=shutil.copyfile)
    done = subprocess.run(
        [
            sys.executable,
            "-s",
            "-c",
            "import componentize_py; componentize_py.script()",
            "--quiet",
            "-d",
            str(Path(os.environ["GILLIAM_WIT"], folder)),
            "-w",
            world,
            "componentize",
            "gilliam._entry",
            "-p",
            str(stage / "sdk"),
            "-p",
            str(stage),
            "-o",
            str(made),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
    )
    report = {"wrong": [], "notes": []}
    # It is there when there is something to say.
    if (stage / "report.json").is_file():
        report = json.loads((stage / "report.json").read_text(encoding="utf-8"))
    for note in report["notes"]:
        say(note)
    if report["wrong"]:
        raise Wrong(*report["wrong"])
    if done.returncode != 0 or not made.is_file():
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        for line in lines[:LINES_MAX]:
            say(line)
        sys.exit(done.returncode or 70)
    made.rename(out)
