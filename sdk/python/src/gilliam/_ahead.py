"""What is done while the component is built: compiling the project, and importing its libraries.

The project is read, never run: its code may depend on config, which only the instance has. Libraries run:
an instance would spend seconds on importing them. `[tool.gilliam] preload = []` in pyproject.toml switches
that off.
"""

import ast
import importlib
import importlib.util
import sys
import traceback

from gilliam import _files, _libraries

APP, SITE = "/app", "/site"
# Of the standard library, what servers need without naming it.
ALWAYS = (
    "asyncio",
    "base64",
    "calendar",
    "collections.abc",
    "concurrent.futures",
    "contextvars",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "email.message",
    "email.parser",
    "email.utils",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "html",
    "http.client",
    "http.cookies",
    "http.server",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "linecache",
    "locale",
    "logging",
    "logging.handlers",
    "math",
    "mimetypes",
    "numbers",
    "operator",
    "pathlib",
    "queue",
    "random",
    "re",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "socketserver",
    "string",
    "struct",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "tokenize",
    "traceback",
    "typing",
    "unicodedata",
    "urllib.parse",
    "urllib.request",
    "uuid",
    "warnings",
    "weakref",
    "wsgiref.handlers",
    "wsgiref.simple_server",
    "zlib",
    "zoneinfo",
    "_strptime",
    "stringprep",
)
# Modules that Python has elsewhere and here cannot have.
ABSENT = {
    "_ctypes": "native libraries (ctypes)",
    "ctypes": "native libraries (ctypes)",
    "_multiprocessing": "processes",
    "multiprocessing": "processes",
    "fcntl": "file locks",
    "termios": "terminals",
    "curses": "terminals",
    "readline": "terminals",
    "tkinter": "windows",
    "mmap": "mmap",
    "pwd": "users of the system",
    "grp": "users of the system",
    "resource": "limits of the system",
    "_bz2": "bzip2",
    "bz2": "bzip2",
    "_lzma": "xz",
    "lzma": "xz",
}

# Where modules of the project are looked for: beside the script, and beside the Procfile.
_roots = []


def load(order):
    """Compiles the project and imports its libraries; says what is wrong and what is worth knowing."""
    report = {"wrong": [], "notes": [], "modules": 0}
    _roots[:] = [f"{APP}/{order['folder']}"] * bool(order["folder"]) + [APP]
    project = _read(order["entry"], report)
    _compile_all(project)
    _import_ahead(order, project, report)
    _libraries.after()
    report["modules"] = len(sys.modules)
    return report


class _Source:
    """A file of the project, parsed."""

    def __init__(self, path, name, is_package, tree, code):
        self.path, self.name, self.is_package, self.tree, self.code = path, name, is_package, tree, code


def _read(entry, report):
    """The entry's file and all of the project that it imports, by module name."""
    found, open_names = {}, [entry]
    while open_names:
        name = open_names.pop()
        place = _place(name)
        if name in found or place is None:
            continue
        path, is_package = place
        text = _files.read(path)
        try:
            tree = compile(text, path[len(APP) + 1 :], "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
            code = compile(text, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            lines = traceback.format_exception_only(error)
            report["wrong"].extend(line.rstrip() for line in "".join(lines).splitlines())
            continue
        source = found[name] = _Source(path, name, is_package, tree, code)
        for wanted, _, _ in _imports(source):
            parts = wanted.split(".")
            open_names.extend(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return found


def _place(name):
    """Where the project has a module: its file, and whether it is a package."""
    for root in _roots:
        path = f"{root}/{name.replace('.', '/')}"
        for file, is_package in ((f"{path}/__init__.py", True), (f"{path}.py", False)):
            if _files.has(file):
                return file, is_package
    return None


def _imports(source):
    """Each module that a file may import, the line, and whether it certainly does."""
    always = set()
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            always.add(node)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, node in always
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = source.name.split(".")
                parts = parts[: len(parts) - node.level + source.is_package]
                base = ".".join([*parts, base] if base else parts)
            if base:
                yield base, node.lineno, node in always
                for alias in node.names:
                    # Perhaps a module, perhaps something in one.
                    yield f"{base}.{alias.name}", node.lineno, False


def _compile_all(project):
    """Puts compiled code beside the project's files, so that no instance compiles."""
    from importlib._bootstrap_external import _code_to_hash_pyc

    codes = {source.path: source.code for source in project.values()}
    for path in sorted(_files.paths_below(APP)):
        if path.endswith(".py"):
            try:
                code = codes.get(path) or compile(_files.read(path), path, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                continue
            hashed = importlib.util.source_hash(_files.read(path))
            _files.add(importlib.util.cache_from_source(path), bytes(_code_to_hash_pyc(code, hashed, False)))


def _import_ahead(order, project, report):
    import encodings

    names = [f"encodings.{name}" for name in sorted(set(encodings.aliases.aliases.values()))]
    for name in (*names, *ALWAYS):
        _try(name)
    chosen = order.get("preload")
    for name in order.get("libraries", []):
        _try(name)
    for source in project.values():
        for name, line, is_certain in _imports(source):
            top = name.split(".")[0]
            if top in ("gilliam", "__future__") or _place(top) or _is_folder_of_project(top):
                continue
            if chosen is not None and top not in chosen and not _is_standard(top):
                continue
            error = _try(name)
            if isinstance(error, ImportError) and is_certain:
                report["wrong"].append(_missing(source, line, name, error))
            elif error is not None and not isinstance(error, ImportError):
                report["notes"].append(f"{name} is not loaded ahead: {type(error).__name__}: {error}")


def _is_folder_of_project(name):
    return any(_files.has_folder(f"{root}/{name}") for root in _roots)


def _is_standard(name):
    return name in sys.stdlib_module_names


def _try(name):
    """Imports a module; what a failing one left half done is taken out again."""
    before = set(sys.modules)
    try:
        importlib.import_module(name)
    except BaseException as error:
        for left in set(sys.modules) - before:
            del sys.modules[left]
        return error
    return None


def _missing(source, line, name, error):
    where = f"{source.path[len(APP) + 1 :]} line {line}"
    missing = getattr(error, "name", None) or ""
    top = missing.split(".")[0]
    why = ABSENT.get(missing) or ABSENT.get(top)
    if why:
        reason = f"{error}: Python in WebAssembly has no {why}"
    elif not isinstance(error, ModuleNotFoundError):
        reason = str(error)
    elif top == name.split(".")[0] and importlib.util.find_spec(top) is None:
        reason = f"{error}; is it in requirements.txt?"
    elif importlib.util.find_spec(top) is not None and missing != top:
        reason = f"{error}; the package {top} needs native code, which cannot run here"
    else:
        reason = str(error)
    return f"{where}: import {name}: {reason}"
