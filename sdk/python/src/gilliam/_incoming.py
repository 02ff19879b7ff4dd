"""The export of a process that answers requests: from `wasi:http` to WSGI, or to a handler, and back."""

import inspect
import io
import sys
from urllib.parse import unquote_to_bytes, urlsplit

from componentize_py_types import Ok
from wit_world.imports import wasi_http_types as wasi

from gilliam import _loop, _start
from gilliam._message import Headers, Request, Response
from gilliam._outgoing import METHODS, OF_THE_CONNECTION, Body, write_all

_application = []


class IncomingHandler:
    """The export `wasi:http/incoming-handler`."""

    def handle(self, request, response_out):
        sender = _Sender(response_out)
        try:
            _start.begin()
            if not _application:
                _application.append(_start.application())
            with _Incoming(request) as incoming:
                sender.has_no_body = incoming.method == "HEAD"
                _answer(_application[0], incoming, sender)
        except BaseException:
            _start.report()
            sender.fail()
        finally:
            _start.flush()


class _Incoming:
    """A request of the platform, in Python's words."""

    def __init__(self, request):
        method = request.method()
        name = type(method).__name__.removeprefix("Method_").upper()
        self.method = name if name in METHODS else method.value
        self.target = request.path_with_query() or "/"
        self.authority = request.authority()
        with request.headers() as fields:
            self.headers = [(name, value.decode("latin-1")) for name, value in fields.entries()]
        self._raw = Body(request)
        self.stream = io.BufferedReader(self._raw, 65536)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._raw.close()


class _Sender:
    """The way back: a response's head once, then its body."""

    def __init__(self, out):
        self._out = out
        self._body = self._stream = None
        self.has_no_body = False

    def begin(self, status, headers):
        # The platform holds a body to its length, and here is none.
        self.has_no_body = self.has_no_body or status in (204, 304)
        never = {*OF_THE_CONNECTION, "content-length"} if self.has_no_body else OF_THE_CONNECTION
        fields = wasi.Fields()
        for name, value in headers:
            if name.lower() not in never:
                fields.append(name.lower(), value.encode("latin-1"))
        response = wasi.OutgoingResponse(fields)
        response.set_status_code(status)
        self._body = response.body()
        out, self._out = self._out, None
        wasi.ResponseOutparam.set(out, Ok(response))
        self._stream = self._body.write()

    def write(self, data):
        if data and not self.has_no_body:
            write_all(self._stream, data)

    def end(self):
        if self._stream is not None:
            self._stream.__exit__(None, None, None)
            body, self._body, self._stream = self._body, None, None
            wasi.OutgoingBody.finish(body, None)

    def fail(self):
        """After an exception: a 500 where nothing was sent; what was begun stays unfinished."""
        if self._out is not None:
            self.begin(500, [("content-type", "text/plain; charset=utf-8")])
            self.write(b"Internal Server Error\n")
            self.end()
        elif self._stream is not None:
            self._stream.__exit__(None, None, None)
            self._body.__exit__(None, None, None)
            self._body = self._stream = None


def _answer(application, incoming, sender):
    if _start.is_wsgi(application):
        _answer_wsgi(application, incoming, sender)
    else:
        _answer_handler(application, incoming, sender)


def _answer_handler(handler, incoming, sender):
    request = Request(incoming.method, incoming.target, Headers(incoming.headers), incoming.stream)
    answer = handler(request)
    if inspect.isawaitable(answer):
        answer = _loop.run(_awaited(answer))
    if not isinstance(answer, Response):
        if not isinstance(answer, (str, bytes)):
            raise TypeError(
                f"the handler returned {type(answer).__name__}, not a gilliam.Response, text or bytes"
            )
        answer = Response(answer)
    headers = answer.headers.items()
    if isinstance(answer.body, (bytes, bytearray)):
        if "content-length" not in answer.headers:
            headers.append(("content-length", str(len(answer.body))))
        pieces = [answer.body]
    else:
        pieces = answer.body
    sender.begin(answer.status, headers)
    for piece in pieces:
        sender.write(piece.encode() if isinstance(piece, str) else piece)
    sender.end()


async def _awaited(answer):
    return await answer


def _answer_wsgi(application, incoming, sender):
    head = []

    def start_response(status, headers, exc_info=None):
        if exc_info and sender._stream is not None:
            raise exc_info[1]
        head[:] = [int(status.split(" ", 1)[0]), list(headers)]
        return lambda data: send(data)

    def send(data):
        if sender._stream is None:
            if not head:
                raise RuntimeError("the application began a body before it called start_response")
            sender.begin(*head)
        sender.write(data)

    pieces = application(_environ(incoming), start_response)
    try:
        if head and sender._stream is None and isinstance(pieces, (list, tuple)):
            if not any(name.lower() == "content-length" for name, _ in head[1]):
                head[1].append(("content-length", str(sum(map(len, pieces)))))
        for piece in pieces:
            send(piece)
        send(b"")
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    sender.end()


def _environ(incoming):
    url = urlsplit(incoming.target)
    host = incoming.authority or dict(incoming.headers).get("host") or "localhost"
    names = dict(incoming.headers)
    environ = {
        "REQUEST_METHOD": incoming.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(url.path).decode("latin-1"),
        "QUERY_STRING": url.query,
        "RAW_URI": incoming.target,
        "SERVER_NAME": host.rsplit(":", 1)[0],
        "SERVER_PORT": host.rsplit(":", 1)[1] if ":" in host else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": names.get("x-forwarded-for", "").split(",")[0].strip(),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": names.get("x-forwarded-proto", "http"),
        "wsgi.input": incoming.stream,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in incoming.headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]}, {value}" if key in environ else value
    environ.setdefault("HTTP_HOST", host)
    return environ
