"""The project: its settings, the Python it wants, and the files that go into the component."""

import os
import re
import shutil
import tomllib
from pathlib import Path

from wrong import Wrong

# The Python inside componentize-py.
VERSION = (3, 14, 0)
# Folders and files that no process reads.
NEVER = {
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "env",
    "node_modules",
    "__pycache__",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".idea",
    ".vscode",
    "wheels",
    "target",
    ".gilliam.app",
    ".DS_Store",
}
NEVER_ENDINGS = (".pyc", ".pyo", ".wasm", ".whl", ".so")
# All of it lies in the memory of each instance.
FILES_BYTES_MAX = 32 << 20
FILES_MAX = 20_000


def settings(root):
    """What pyproject.toml says: `[project]` and `[tool.gilliam]`."""
    try:
        with open(root / "pyproject.toml", "rb") as file:
            read = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Wrong(f"pyproject.toml: {error}") from None
    own = read.get("tool", {}).get("gilliam", {})
    for key, value in own.items():
        if key not in ("web", "preload"):
            raise Wrong(f"pyproject.toml: [tool.gilliam] has no {key!r}, only web and preload")
        if key == "web" and value not in ("listen", "requests"):
            raise Wrong(f'pyproject.toml: [tool.gilliam] web is "listen" or "requests", not {value!r}')
        if key == "preload" and not (
            isinstance(value, list) and all(isinstance(name, str) for name in value)
        ):
            raise Wrong("pyproject.toml: [tool.gilliam] preload is a list of package names")
    return {"project": read.get("project", {}), "gilliam": own}


def check_version(root, found):
    """Refuses a project that is for another Python."""
    ours = ".".join(map(str, VERSION))
    pin = root / ".python-version"
    if pin.is_file():
        words = [line.strip() for line in pin.read_text("utf-8", "replace").splitlines()]
        wanted = next((word for word in words if word and not word.startswith("#")), "")
        numbers = re.fullmatch(r"(?:cpython-|python-)?(\d+(?:\.\d+)*)", wanted)
        if not numbers:
            raise Wrong(f".python-version: {wanted!r} is not a version; the platform has Python {ours}")
        parts = [int(number) for number in numbers[1].split(".")]
        if tuple(parts[:2]) != VERSION[: len(parts[:2])]:
            raise Wrong(
                f".python-version: the project wants Python {wanted}, the platform has {ours}",
                f"hint: write {VERSION[0]}.{VERSION[1]} into .python-version, or remove it",
            )
    wanted = found.get("project", {}).get("requires-python")
    if wanted and not _is_met(str(wanted)):
        raise Wrong(f"pyproject.toml: requires-python = {wanted!r}, the platform has Python {ours}")


def _is_met(wanted):
    from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return ".".join(map(str, VERSION)) in SpecifierSet(wanted)
    except InvalidSpecifier:
        raise Wrong(f"pyproject.toml: requires-python = {wanted!r} is not a range of versions") from None


def copy(root, to, skip=()):
    """Copies what a process may read."""
    count = size = 0
    largest = []
    to.mkdir()
    for folder, names, files in os.walk(root):
        below = Path(folder).relative_to(root)
        names[:] = sorted(name for name in names if name not in NEVER and str(below / name) not in skip)
        for name in sorted(files):
            place = Path(folder, name)
            if name in NEVER or name.endswith(NEVER_ENDINGS) or not place.is_file():
                continue
            count, size = count + 1, size + place.stat().st_size
            largest.append((place.stat().st_size, str(below / name)))
            (to / below).mkdir(parents=True, exist_ok=True)
            if size <= FILES_BYTES_MAX and count <= FILES_MAX:
                shutil.copyfile(place, to / below / name)
    if size > FILES_BYTES_MAX or count > FILES_MAX:
        names = ", ".join(f"{name} ({bytes >> 10} KiB)" for bytes, name in sorted(largest)[:-4:-1])
        raise Wrong(
            f"the project has {count} files with {size >> 20} MiB, which an instance would hold in memory",
            f"hint: {FILES_BYTES_MAX >> 20} MiB fit; name what is not needed in .gilliamignore: {names}",
        )
