"""A server for ASGI applications: HTTP/1.1 on `$PORT`, as many requests at once as the event loop takes.

One request to a connection: the platform's ingress is the only client, and it is near. No WebSockets.
"""

import asyncio
from urllib.parse import unquote_to_bytes

from gilliam import _start

# Bytes of a request's head, and of one piece of its body.
HEAD_BYTES_MAX = 128 * 1024
PIECE_BYTES = 64 * 1024
REASONS = {200: b"OK", 201: b"Created", 204: b"No Content", 304: b"Not Modified", 404: b"Not Found"}


def serve(find, port):
    """Serves the application that `find` gives, until the process is stopped."""
    asyncio.run(_serve(find, port))


async def _serve(find, port):
    application = find()
    state = {}
    lifespan = await _Lifespan.begin(application, state)

    async def on_connection(reader, writer):
        try:
            await _Exchange(reader, writer, state).run(application)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, "0.0.0.0", port, limit=HEAD_BYTES_MAX)
    try:
        await server.serve_forever()
    finally:
        await lifespan.end()


class _Lifespan:
    """Tells the application of its start and end, where it wants to hear of them."""

    def __init__(self):
        self.events, self.answers = asyncio.Queue(), asyncio.Queue()

    @classmethod
    async def begin(cls, application, state):
        self = cls()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self.task = asyncio.create_task(self._run(application, scope))
        await self.events.put({"type": "lifespan.startup"})
        answer = await self.answers.get()
        if answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"the application did not start: {answer.get('message', '')}")
        return self

    async def _run(self, application, scope):
        try:
            await application(scope, self.events.get, self.answers.put)
        except BaseException:
            # An application that does not know the scope.
            await self.answers.put({"type": "lifespan.none"})

    async def end(self):
        await self.events.put({"type": "lifespan.shutdown"})
        await asyncio.wait([self.task])


class _Exchange:
    """One request and its response."""

    def __init__(self, reader, writer, state):
        self.reader, self.writer, self.state = reader, writer, state
        self.left = 0
        self.is_chunked = self.is_begun = self.is_over = self.sends_chunks = self.has_body = False
        self.over = asyncio.Event()

    async def run(self, application):
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        method, target, _ = first.split(b" ", 2)
        pairs = [
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        ]
        headers = dict(pairs)
        self.left = int(headers.get(b"content-length", b"0"))
        self.is_chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self.is_over = not self.is_chunked and self.left == 0
        self.is_head = method == b"HEAD"
        try:
            await application(self._scope(method, target, pairs, headers), self.receive, self.send)
        except Exception:
            _start.report()
        if not self.is_begun:
            await self.send(
                {"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain")]}
            )
            await self.send({"type": "http.response.body", "body": b"Internal Server Error\n"})
        await self.writer.drain()
        _start.flush()

    def _scope(self, method, target, pairs, headers):
        path, _, query = target.partition(b"?")
        host, _, port = headers.get(b"host", b"localhost").decode("latin-1").partition(":")
        client = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")[0].strip()
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method.decode("latin-1"),
            "scheme": headers.get(b"x-forwarded-proto", b"http").decode("latin-1"),
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": pairs,
            "client": (client, 0) if client else None,
            "server": (host, int(port) if port.isdigit() else 80),
            "state": dict(self.state),
        }

    async def receive(self):
        if self.is_over:
            await self.over.wait()
            return {"type": "http.disconnect"}
        data = await self._piece()
        return {"type": "http.request", "body": data, "more_body": not self.is_over}

    async def _piece(self):
        if self.is_chunked:
            size = int((await self.reader.readline()).split(b";")[0], 16)
            data = await self.reader.readexactly(size)
            await self.reader.readline()
            self.is_over = size == 0
            return data
        data = await self.reader.read(min(self.left, PIECE_BYTES))
        self.left -= len(data)
        self.is_over = self.left <= 0 or not data
        return data

    async def send(self, event):
        if event["type"] == "http.response.start":
            self._begin(event["status"], event.get("headers", ()))
        elif event["type"] == "http.response.body":
            self._write(event.get("body", b""), event.get("more_body", False))
            await self.writer.drain()

    def _begin(self, status, headers):
        if self.is_begun:
            raise RuntimeError("a response was begun twice")
        self.is_begun = True
        headers = [(bytes(name), bytes(value)) for name, value in headers]
        self.has_body = not self.is_head and status >= 200 and status not in (204, 304)
        self.sends_chunks = self.has_body and not any(
            name.lower() == b"content-length" for name, _ in headers
        )
        lines = [b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b"-"))]
        lines += [
            b"%s: %s" % pair
            for pair in headers
            if pair[0].lower() not in (b"connection", b"transfer-encoding")
        ]
        lines.append(b"transfer-encoding: chunked" if self.sends_chunks else b"")
        lines += [b"connection: close"]
        self.writer.write(b"\r\n".join(line for line in lines if line) + b"\r\n\r\n")

    def _write(self, data, is_more):
        if data and self.has_body:
            self.writer.write(b"%x\r\n%s\r\n" % (len(data), data) if self.sends_chunks else data)
        if not is_more:
            if self.sends_chunks:
                self.writer.write(b"0\r\n\r\n")
            self.over.set()
