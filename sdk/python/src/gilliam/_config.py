"""The app's config, and lines with levels for `gilliam logs`."""

import os
import sys

LEVELS = ("debug", "info", "warn", "error", "off")


def config(key, otherwise=None):
    """A value of the app's config (`gilliam config set KEY=VALUE`), or what stands for it."""
    return os.environ.get(key, otherwise)


class Log:
    """Writes lines that begin with their level. The config LOG_LEVEL says from which level on; info unless it is said."""

    def debug(self, *words):
        _line("debug", words)

    def info(self, *words):
        _line("info", words)

    def warn(self, *words):
        _line("warn", words)

    def error(self, *words):
        _line("error", words)


def _line(level, words):
    least = os.environ.get("LOG_LEVEL", "info").lower()
    if LEVELS.index(level) < LEVELS.index(least if least in LEVELS else "info"):
        return
    stream = sys.stderr if level in ("warn", "error") else sys.stdout
    for line in " ".join(map(str, words)).splitlines() or [""]:
        print(level.upper(), line, file=stream)


log = Log()
