"""What the project's author is told."""


class Wrong(Exception):
    """The project is at fault; the last line says how."""

    def __init__(self, *lines):
        super().__init__("\n".join(lines))
        self.lines = lines


def say(line):
    """A line of the build's output."""
    print(line, flush=True)
