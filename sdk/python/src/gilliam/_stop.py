"""The platform's notice that a program is to end."""


def is_stopping():
    """Whether the platform has asked this program to end: at a deploy, a scale or a stop.

    It is let run for `exit_timeout` after that. The notice is the end of standard input.
    """
    try:
        from componentize_py_types import Err
        from wit_world.imports import stdin
        from wit_world.imports.streams import StreamError_Closed
    except ImportError:
        return False
    with stdin.get_stdin() as stream:
        try:
            stream.read(1)
        except Err as error:
            return isinstance(error.value, StreamError_Closed)
    return False
