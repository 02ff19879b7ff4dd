"""HTTP requests by the platform: what `http.client` sends goes through `wasi:http`, which speaks TLS.

`urllib.request`, `requests` and all others on `http.client` need no change.
"""

import http.client
import io
import socket

from componentize_py_types import Err, Ok
from wit_world.imports import outgoing_handler, wasi_http_types as wasi
from wit_world.imports.streams import StreamError_Closed

# What the platform says itself, or forbids.
OF_THE_CONNECTION = {
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
# Bytes of one reading from a body.
READ_BYTES = 65536
# Nanoseconds of a second, the unit of time limits.
SECOND = 1_000_000_000


class Body(io.RawIOBase):
    """The body of a message that came, as a file."""

    def __init__(self, message):
        self._message = message
        self._body = message.consume()
        self._stream = self._body.stream()

    def readable(self):
        return True

    def readinto(self, buffer):
        while self._stream is not None:
            try:
                data = self._stream.blocking_read(min(len(buffer), READ_BYTES))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return 0
                raise ConnectionResetError("the other side ended within the body") from None
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0

    def close(self):
        if self._stream is not None:
            self._stream.__exit__(None, None, None)
            wasi.IncomingBody.finish(self._body).__exit__(None, None, None)
            self._message.__exit__(None, None, None)
            self._stream = None
        super().close()


def write_all(stream, data):
    """Writes bytes to a stream of the platform, as it takes them."""
    view = memoryview(data)
    while view:
        free = stream.check_write()
        if free == 0:
            with stream.subscribe() as ready:
                ready.block()
            continue
        stream.write(bytes(view[:free]))
        view = view[free:]


def method_of(name):
    """A method in the platform's words."""
    if name in METHODS:
        return getattr(wasi, f"Method_{name.capitalize()}")()
    return wasi.Method_Other(name)


def send(method, scheme, authority, target, headers, body, timeout):
    """Sends a request; gives the answer of the platform."""
    fields = wasi.Fields.from_list(
        [(name.lower(), value) for name, value in headers if name.lower() not in OF_THE_CONNECTION]
    )
    request = wasi.OutgoingRequest(fields)
    request.set_method(method_of(method))
    request.set_scheme(wasi.Scheme_Https() if scheme == "https" else wasi.Scheme_Http())
    request.set_authority(authority)
    request.set_path_with_query(target)
    options = wasi.RequestOptions()
    if timeout:
        options.set_connect_timeout(int(timeout * SECOND))
        options.set_first_byte_timeout(int(timeout * SECOND))
        options.set_between_bytes_timeout(int(timeout * SECOND))
    outgoing = request.body()
    try:
        future = outgoing_handler.handle(request, options)
        if body:
            with outgoing.write() as stream:
                write_all(stream, body)
        wasi.OutgoingBody.finish(outgoing, None)
        with future.subscribe() as ready:
            ready.block()
        with future:
            answer = future.get()
        while isinstance(answer, Ok):
            answer = answer.value
        if isinstance(answer, Err):
            raise answer
        return answer
    except Err as error:
        raise _os_error(error.value, f"{scheme}://{authority}") from None


def _os_error(code, url):
    name = type(code).__name__.removeprefix("ErrorCode_")
    if name in ("HttpRequestDenied", "DestinationIpProhibited"):
        return PermissionError(f"{url} is not allowed: name it in allowed_outbound_hosts of gilliam.toml")
    if name in (
        "DnsTimeout",
        "ConnectionTimeout",
        "ConnectionReadTimeout",
        "ConnectionWriteTimeout",
        "HttpResponseTimeout",
    ):
        return TimeoutError(f"{url}: {name}")
    if name == "ConnectionRefused":
        return ConnectionRefusedError(f"{url} refused the connection")
    if name in ("DnsError", "DestinationNotFound"):
        return socket.gaierror(f"{url} was not found")
    return OSError(f"{url}: {name} {getattr(code, 'value', None) or ''}".rstrip())


class _Exchange:
    """In place of a socket: takes a request as HTTP/1.1 text and gives the answer as such."""

    def __init__(self, scheme, authority, timeout):
        self._scheme, self._authority, self._timeout = scheme, authority, timeout
        self._sent = bytearray()

    def sendall(self, data, flags=0):
        self._sent += data

    def settimeout(self, timeout):
        self._timeout = timeout

    def setsockopt(self, *_):
        pass

    def fileno(self):
        return -1

    def shutdown(self, how):
        pass

    def close(self):
        pass

    def makefile(self, mode="rb", *_, **__):
        head, _, body = bytes(self._sent).partition(b"\r\n\r\n")
        self._sent.clear()
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [
            (name, value.strip().encode("latin-1"))
            for name, _, value in (line.partition(":") for line in lines)
        ]
        if any(name.lower() == "transfer-encoding" for name, _ in headers):
            body = _without_chunks(body)
        answer = send(method, self._scheme, self._authority, target, headers, body, self._timeout)
        with answer.headers() as fields:
            pairs = fields.entries()
        status = answer.status()
        text = f"HTTP/1.1 {status} {http.client.responses.get(status, '')}\r\n".encode()
        for name, value in pairs:
            if name not in OF_THE_CONNECTION:
                text += name.encode() + b": " + value + b"\r\n"
        return io.BufferedReader(_After(text + b"connection: close\r\n\r\n", Body(answer)), READ_BYTES)


class _After(io.RawIOBase):
    """Some bytes, and then a file."""

    def __init__(self, first, then):
        self._first, self._then = first, then

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._first:
            return self._then.readinto(buffer)
        part, self._first = self._first[: len(buffer)], self._first[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self):
        self._then.close()
        super().close()


def _without_chunks(data):
    body = bytearray()
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if length == 0:
            break
        body += data[:length]
        data = data[length + 2 :]
    return bytes(body)


def _connect(scheme):
    standard = {"http": 80, "https": 443}[scheme]

    def connect(self):
        authority = self.host if self.port in (None, standard) else f"{self.host}:{self.port}"
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        self.sock = _Exchange(scheme, authority, timeout)
        self.is_verified = True

    return connect


def install():
    """Lets `http.client` send by the platform."""
    http.client.HTTPConnection.connect = _connect("http")
    http.client.HTTPSConnection.connect = _connect("https")


def fit_urllib3(connection):
    """Lets urllib3, and `requests` on it, send by the platform."""
    connection.HTTPConnection.connect = _connect("http")
    connection.HTTPSConnection.connect = _connect("https")
