"""The files of the app, in memory: an instance has no file system.

The build fills it with the project, its packages and the standard library, and `install` puts it under the
functions that Python programs read files with, so that imports, templates, `open` and `pathlib` find them.
What a program writes stays in its instance's memory and ends with it. Paths that are not here are asked of
the system, as before.
"""

import builtins
import errno
import io
import os
import posix
import posixpath
import stat
import zlib

# Below this many bytes a file is kept as it is; a larger one of the standard library is compressed.
COMPRESS_BYTES_MIN = 1024
# Times of files lie here, by their content: a changed file gets another ETag of the frameworks.
EPOCH = 315_532_800
EPOCH_SPAN = 1_000_000_000

_system = {
    name: getattr(posix, name)
    for name in (
        "stat",
        "lstat",
        "listdir",
        "scandir",
        "access",
        "getcwd",
        "chdir",
        "mkdir",
        "rmdir",
        "unlink",
        "remove",
        "rename",
        "replace",
        "utime",
        "chmod",
        "open",
    )
    if hasattr(posix, name)
}
_open = io.open
_open_code = io.open_code


class _File:
    """A file: its bytes, maybe compressed, and what `stat` says."""

    __slots__ = ("packed", "data", "mtime")

    def __init__(self, data, compress=False):
        self.mtime = EPOCH + zlib.crc32(data) % EPOCH_SPAN
        self.packed = compress and len(data) >= COMPRESS_BYTES_MIN
        self.data = zlib.compress(data, 9) if self.packed else data

    def read(self):
        return zlib.decompress(self.data) if self.packed else self.data


class _Written(io.BytesIO):
    """A file open for writing."""

    def __init__(self, path, data, mode):
        super().__init__(data)
        self._path = path
        self.name = path
        self.mode = mode
        if "a" in mode:
            self.seek(0, io.SEEK_END)

    def flush(self):
        if not self.closed:
            _files[self._path] = _File(self.getvalue())

    def close(self):
        self.flush()
        super().close()


class _Entry:
    """What `os.scandir` gives."""

    __slots__ = ("name", "path")

    def __init__(self, name, path):
        self.name, self.path = name, path

    def __fspath__(self):
        return self.path

    def is_dir(self, *, follow_symlinks=True):
        return _absolute(self.path) in _folders

    def is_file(self, *, follow_symlinks=True):
        return _absolute(self.path) in _files

    def is_symlink(self):
        return False

    def is_junction(self):
        return False

    def stat(self, *, follow_symlinks=True):
        return os.stat(self.path)

    def inode(self):
        return os.stat(self.path).st_ino


class _Scan(list):
    """The iterator of `os.scandir`, which is a context as well."""

    def __enter__(self):
        return iter(self)

    def __exit__(self, *_):
        pass

    def __next__(self):
        if self:
            return self.pop(0)
        raise StopIteration

    def close(self):
        self.clear()


_files = {}
_folders = {}
_cwd = ["/"]


def add(path, data, compress=False):
    """Adds a file, with its folders."""
    _files[path] = _File(data, compress)
    _link(path)


def add_tree(root, to, compress=False, keep=lambda _: True):
    """Adds the files below a folder of the build."""
    _folder(to)
    for folder, names, files in os.walk(root):
        names.sort()
        below = posixpath.relpath(folder, root)
        place = to if below == "." else f"{to}/{below}"
        _folder(place)
        for name in sorted(files):
            if keep(name):
                with _open(f"{folder}/{name}", "rb") as file:
                    add(f"{place}/{name}", file.read(), compress)


def read(path):
    """The bytes of a file."""
    return _files[path].read()


def has(path):
    """Whether there is a file."""
    return path in _files


def has_folder(path):
    """Whether there is a folder."""
    return path in _folders


def paths_below(folder):
    """All files below a folder."""
    return {path for path in _files if path.startswith(f"{folder}/")}


def _folder(path):
    if path not in _folders:
        _folders[path] = set()
        if path != "/":
            _link(path)


def _link(path):
    parent, name = posixpath.split(path)
    _folder(parent)
    _folders[parent].add(name)


def _unlink(path):
    parent, name = posixpath.split(path)
    _folders[parent].discard(name)


def _absolute(path):
    path = os.fspath(path)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return posixpath.normpath(posixpath.join(_cwd[0], path))


def _is_ours(path):
    """The absolute path of a file or folder here, or None."""
    if isinstance(path, int):
        return None
    path = _absolute(path)
    return path if path in _files or path in _folders else None


def _missing(path):
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _stat(path, *, dir_fd=None, follow_symlinks=True):
    ours = _is_ours(path)
    if ours is None:
        return _system["stat"](path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    file = _files.get(ours)
    if file is None:
        mode, size, mtime = stat.S_IFDIR | 0o755, 0, EPOCH
    else:
        size = len(file.read()) if file.packed else len(file.data)
        mode, mtime = stat.S_IFREG | 0o644, file.mtime
    return os.stat_result((mode, zlib.crc32(ours.encode()), 1, 1, 0, 0, size, mtime, mtime, mtime))


def _lstat(path, *, dir_fd=None):
    return _stat(path) if _is_ours(path) else _system["lstat"](path, dir_fd=dir_fd)


def _listdir(path="."):
    ours = None if path is None and not _folders else _is_ours("." if path is None else path)
    if ours is None:
        return _system["listdir"](path)
    if ours in _files:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    names = sorted(_folders[ours])
    return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names


def _scandir(path="."):
    path = "." if path is None else path
    if _is_ours(path) is None:
        return _system["scandir"](path)
    return _Scan(_Entry(name, os.path.join(os.fspath(path), name)) for name in _listdir(path))


def _access(path, mode, *, dir_fd=None, effective_ids=False, follow_symlinks=True):
    if _is_ours(path) is None:
        return _system["access"](path, mode) if "access" in _system else False
    return True


def _getcwd():
    return _cwd[0]


def _chdir(path):
    ours = _is_ours(path)
    if ours not in _folders:
        raise _missing(path)
    _cwd[0] = ours


def _mkdir(path, mode=0o777, *, dir_fd=None):
    place = _absolute(path)
    if place in _files or place in _folders:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    if posixpath.dirname(place) not in _folders:
        raise _missing(path)
    _folder(place)


def _rmdir(path, *, dir_fd=None):
    ours = _is_ours(path)
    if ours not in _folders:
        raise _missing(path)
    if _folders[ours]:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
    del _folders[ours]
    _unlink(ours)


def _remove(path, *, dir_fd=None):
    ours = _is_ours(path)
    if ours not in _files:
        raise _missing(path)
    del _files[ours]
    _unlink(ours)


def _rename(source, target, *, src_dir_fd=None, dst_dir_fd=None):
    ours, to = _is_ours(source), _absolute(target)
    if ours not in _files:
        raise _missing(source)
    _files[to] = _files.pop(ours)
    _unlink(ours)
    _link(to)


def _nothing(path, *_, **__):
    if _is_ours(path) is None:
        raise _missing(path)


def _opened(
    file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None
):
    if isinstance(file, int) or opener is not None:
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    path = _absolute(file)
    writes = bool(set(mode) & set("wax+"))
    if path in _folders:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
    if path not in _files and not (writes and posixpath.dirname(path) in _folders):
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    if path in _files and "x" in mode:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), file)
    if path not in _files and not set(mode) & set("wax"):
        raise _missing(file)
    data = b"" if path not in _files or "w" in mode else _files[path].read()
    if writes:
        raw = _Written(path, data, mode)
        raw.flush()
        _link(path)
    else:
        raw = io.BytesIO(data)
        raw.name = path
    if "b" in mode:
        return raw
    text = io.TextIOWrapper(raw, encoding or "utf-8", errors, newline)
    text.mode = mode
    return text


def _code(path):
    return io.BytesIO(_files[path].read()) if path in _files else _open_code(path)


def install():
    """Puts the files under the functions of `os` and `io`, and the working folder at the app's."""
    ours = {
        "stat": _stat,
        "lstat": _lstat,
        "listdir": _listdir,
        "scandir": _scandir,
        "access": _access,
        "getcwd": _getcwd,
        "chdir": _chdir,
        "mkdir": _mkdir,
        "rmdir": _rmdir,
        "unlink": _remove,
        "remove": _remove,
        "rename": _rename,
        "replace": _rename,
        "utime": _nothing,
        "chmod": _nothing,
    }
    for name, function in ours.items():
        setattr(posix, name, function)
        setattr(os, name, function)
    builtins.open = io.open = _opened
    io.open_code = _code
    import _io

    _io.open, _io.open_code = _opened, _code
    for functions in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        functions.clear()
    _folder("/tmp")


def enter(folder):
    """The working folder."""
    _cwd[0] = folder
