"""Servers that a program starts itself: what they take for granted of a machine.

The platform names the port, and there are no threads and no other processes.
"""

import os
import socket
import sys

_port = []


def begin(process):
    """Makes servers fit, in an instance of this process type."""
    if process == "web" and os.environ.get("PORT", "").isdigit():
        _port.append(int(os.environ["PORT"]))
        socket.socket.bind = _bind
    if "werkzeug.serving" in sys.modules:
        _fit_werkzeug(sys.modules["werkzeug.serving"])


def _bind(self, address):
    """Binds the first listening socket to the port that the platform asks at."""
    if _port and self.type == socket.SOCK_STREAM and isinstance(address, tuple) and address[1] != 0:
        port = _port.pop()
        if address[1] != port:
            print(f"port {address[1]} is not this app's: listening on {port} ($PORT)", file=sys.stderr)
        address = (address[0], port, *address[2:])
    return super(socket.socket, self).bind(address)


def _fit_werkzeug(serving):
    run_simple = serving.run_simple

    def fitting(
        hostname, port, application, use_reloader=False, use_debugger=False, use_evalex=True, **options
    ):
        for name in (
            "threaded",
            "processes",
            "reloader_interval",
            "reloader_type",
            "exclude_patterns",
            "extra_files",
        ):
            options.pop(name, None)
        return run_simple(hostname, port, application, use_debugger=use_debugger, **options)

    serving.run_simple = fitting
    # A log is no terminal.
    serving._log_add_style = False
