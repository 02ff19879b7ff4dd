"""Requests inside the platform, and what it says when it refuses."""

import json
from urllib.parse import quote, urlencode

from gilliam._fetch import fetch


class GilliamError(Exception):
    """The platform or a service refused; `status`, `code` (`Q13`, `N04`) and `hint` say why and what to do."""

    def __init__(self, status, code, message, hint):
        super().__init__(f"{code or status}: {message}" + (f" ({hint})" if hint else ""))
        self.status, self.code, self.hint = status, code, hint


def call(method, url, *allowed, body=None, headers=None):
    """The answer to a request, or a GilliamError for a status of failure that is not among `allowed`."""
    answer = fetch(url, method=method, body=body, headers=headers)
    if answer.status < 400 or answer.status in allowed:
        return answer
    code, message, hint = "", answer.text.strip(), None
    try:
        said = answer.json()
        code, message, hint = said.get("code", ""), said.get("message", message), said.get("hint")
    except (ValueError, AttributeError):
        # It was not the platform who refused: the text says what it says.
        pass
    raise GilliamError(answer.status, code, message, hint)


def call_json(url, value):
    """What a `POST` of JSON answers, read as JSON."""
    headers = {"content-type": "application/json"}
    return call("POST", url, body=json.dumps(value), headers=headers).json()


def query(**values):
    """`?a=b` of what is there."""
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given, quote_via=quote)}" if given else ""


def encode(value):
    """What is sent of a value: bytes as they are, all else as JSON."""
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else json.dumps(value).encode()


def pages(origin, prefix, key):
    """All of what a service lists page by page."""
    after = None
    while True:
        page = call("GET", f"{origin}/{query(prefix=prefix, after=after)}").json()
        yield from page[key]
        after = page.get("next")
        if not after:
            return


class App:
    """Another app of the cluster; see `app`."""

    def __init__(self, name):
        self._origin = f"http://{name}.internal"

    def fetch(self, path, **options):
        """As `gilliam.fetch`, of a path of the app."""
        return fetch(f"{self._origin}/{path.removeprefix('/')}", **options)


def app(name):
    """Another app, by its name in `[uses]` of gilliam.toml: `app("billing").fetch("/invoices/7").json()`."""
    return App(name)
