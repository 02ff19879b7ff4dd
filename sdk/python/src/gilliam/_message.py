"""Requests and responses, as a handler sees them."""

import json
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit


class Headers:
    """Header fields, in their order. Names are compared without case."""

    def __init__(self, items=()):
        pairs = items.items() if hasattr(items, "items") else items
        self._pairs = [(str(name), str(value)) for name, value in pairs]

    def get(self, name, default=None):
        """The first value of this name."""
        return next((value for other, value in self._pairs if other.lower() == name.lower()), default)

    def get_all(self, name):
        """All values of this name."""
        return [value for other, value in self._pairs if other.lower() == name.lower()]

    def add(self, name, value):
        """Adds a field, beside those of its name."""
        self._pairs.append((name, str(value)))

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name, value):
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != name.lower()]
        self.add(name, value)

    def __contains__(self, name):
        return self.get(name) is not None

    def __iter__(self):
        return iter(self._pairs)

    def __len__(self):
        return len(self._pairs)

    def items(self):
        """All pairs of name and value."""
        return list(self._pairs)

    def __repr__(self):
        return f"Headers({self._pairs!r})"


class Request:
    """What a client asks. `body` is read when it is first asked for; `stream` is its file, for large ones."""

    def __init__(self, method, url, headers=(), stream=None):
        self.method = method
        self.url = url
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.stream = stream
        self._body = None

    @property
    def path(self):
        """The path of the URL, as it was sent."""
        return urlsplit(self.url).path or "/"

    @property
    def query(self):
        """The parameters of the URL: the last value of each name."""
        pairs = parse_qs(urlsplit(self.url).query, keep_blank_values=True)
        return {name: values[-1] for name, values in pairs.items()}

    @property
    def body(self):
        """The whole body."""
        if self._body is None:
            self._body = self.stream.read() if self.stream is not None else b""
        return self._body

    @property
    def text(self):
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self):
        """The body, read as JSON."""
        return json.loads(self.body)

    def form(self):
        """The fields of a body of type `application/x-www-form-urlencoded`."""
        pairs = parse_qs(self.text, keep_blank_values=True)
        return {name: values[-1] for name, values in pairs.items()}


class Response:
    """What a client gets. The body is text, bytes, or pieces of bytes, which are sent as they come."""

    def __init__(self, body=b"", status=200, headers=()):
        self.status = int(status)
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        if isinstance(body, str):
            body = body.encode()
            self._default_type("text/plain; charset=utf-8")
        self.body = body

    def _default_type(self, content_type):
        if "content-type" not in self.headers:
            self.headers.add("content-type", content_type)

    @classmethod
    def json(cls, value, status=200, headers=()):
        """A value as JSON."""
        response = cls(json.dumps(value).encode() + b"\n", status, headers)
        response._default_type("application/json")
        return response

    @classmethod
    def html(cls, text, status=200, headers=()):
        """A page."""
        response = cls(text.encode(), status, headers)
        response._default_type("text/html; charset=utf-8")
        return response

    @classmethod
    def redirect(cls, url, status=302):
        """Sends the client elsewhere."""
        return cls(b"", status, [("location", url)])

    @property
    def reason(self):
        """The words of the status."""
        return HTTPStatus(self.status).phrase if self.status in HTTPStatus else ""
