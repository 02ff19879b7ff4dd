"""The packages that the project asks for, into the folder `site` of the stage.

Wheels only, and of them what is written in Python: a component has no place for native code. Where a package
brings both, its native part is left out.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from wrong import Wrong, say

PYTHON = "3.14"
# Whichever machine builds: their native parts are not used.
PLATFORMS = (
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_34_x86_64",
    "manylinux1_x86_64",
    "any",
)
# Packages that are known to be of no use without their native part, by their folder.
NATIVE = (
    "numpy",
    "pandas",
    "scipy",
    "pydantic_core",
    "lxml",
    "cryptography",
    "psycopg2",
    "PIL",
    "grpc",
    "uvloop",
    "orjson",
    "msgspec",
    "torch",
    "greenlet",
    "gevent",
    "cffi",
    "zmq",
    "rpds",
    "bcrypt",
    "nacl",
    "tiktoken",
)
# Sets of packages that are kept from earlier builds.
KEPT_MAX = 3
# Lines of pip's own message.
LINES_MAX = 8


class Site:
    """What was installed."""

    def __init__(self):
        self.vendored = set()


def install(root, settings, stage):
    """Fills `site`."""
    site, to = Site(), stage / "site"
    wanted = _wanted(root, settings)
    if _has_packages(root / "vendor"):
        site.vendored.add("vendor")
        shutil.copytree(root / "vendor", to)
        _strip(to)
        say("packages of the folder vendor")
        return site
    if not wanted:
        return site
    kept = Path(os.environ["GILLIAM_CACHE"], "sites")
    kept.mkdir(exist_ok=True)
    wheels = next((root / name for name in ("wheels", "vendor") if any((root / name).glob("*.whl"))), None)
    if wheels is not None:
        site.vendored.add(wheels.name)
    place = kept / _fingerprint(root, wanted, wheels)
    if place.is_dir():
        os.utime(place)
        say("packages of an earlier build")
    else:
        _pip(root, wanted, wheels, place)
        for old in sorted(kept.iterdir(), key=lambda folder: folder.stat().st_mtime)[:-KEPT_MAX]:
            shutil.rmtree(old)
    shutil.copytree(place, to)
    return site


def _wanted(root, settings):
    """Arguments of pip that name the packages."""
    if (root / "requirements.txt").is_file():
        lines = (root / "requirements.txt").read_text("utf-8", "replace").splitlines()
        if any(line.strip() and not line.strip().startswith("#") for line in lines):
            return ["-r", "requirements.txt"]
        return []
    names = settings.get("project", {}).get("dependencies", [])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise Wrong("pyproject.toml: [project] dependencies is a list of text")
    return names


def _has_packages(folder):
    return folder.is_dir() and not any(folder.glob("*.whl")) and any(folder.rglob("*.py"))


def _fingerprint(root, wanted, wheels):
    sums = hashlib.sha256("\0".join(wanted).encode())
    for path in sorted(root.glob("*.txt")) + sorted(root.glob("requirements/*.txt")):
        sums.update(path.read_bytes())
    for path in sorted(wheels.glob("*.whl")) if wheels else []:
        sums.update(path.name.encode() + path.read_bytes())
    return sums.hexdigest()


def _pip(root, wanted, wheels, place):
    command = [
        sys.executable,
        "-s",
        "-m",
        "pip",
        "--isolated",
        "--no-input",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-compile",
        "--only-binary=:all:",
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        "--root-user-action=ignore",
        "--no-warn-script-location",
    ]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    if wheels is not None:
        say(f"installing packages of the folder {wheels.name}")
        command += ["--no-index", "--find-links", str(wheels)]
    elif os.environ.get("GILLIAM_NETWORK"):
        say("installing packages with pip")
        index = Path(os.environ["GILLIAM_COMPONENTIZE"], "index").read_text().split()[0]
        command += [
            "--index-url",
            index,
            "--cache-dir",
            str(Path(os.environ["GILLIAM_CACHE"], "pip")),
            "--cert",
            "/etc/ssl/certs/ca-certificates.crt",
        ]
    else:
        raise Wrong(
            "the project asks for packages, and builds of this server have no network",
            f"hint: put their wheels into the project: pip download -d wheels --only-binary=:all: "
            f"--python-version {PYTHON} {' '.join(wanted)}",
        )
    new = place.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    done = subprocess.run(
        [*command, "--target", str(new), *wanted],
        cwd=root,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        if "No matching distribution found" in done.stdout:
            lines.append(
                "hint: there must be a wheel, for any machine or for Linux: packages are not compiled here"
            )
        raise Wrong(*lines[-LINES_MAX:])
    for native in _strip(new):
        if native in NATIVE:
            shutil.rmtree(new)
            raise Wrong(f"the package {native} is native code, which cannot run in WebAssembly's Python")
        say(f"{native}: its native part is left out")
    new.rename(place)


def _strip(site):
    """Removes what a component has no use for; names the packages that lose native code."""
    shutil.rmtree(site / "bin", ignore_errors=True)
    natives = set()
    for path in sorted(site.rglob("*")):
        if path.suffix in (".so", ".pyd", ".dylib"):
            natives.add(path.relative_to(site).parts[0].partition(".")[0])
            path.unlink()
        elif path.name == "__pycache__":
            shutil.rmtree(path)
        elif path.suffix in (".pyc", ".pyi", ".c", ".pyx") or path.name in (
            "RECORD",
            "py.typed",
            "REQUESTED",
        ):
            path.unlink(missing_ok=True)
    return sorted(native for native in natives if not native.endswith(("_libs", ".libs")))
