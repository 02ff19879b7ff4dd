"""Requests to others. Hosts must be in `allowed_outbound_hosts` of gilliam.toml."""

import json as _json

from gilliam._message import Headers


class Answer:
    """What another server said."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = Headers(headers)
        self.body = body

    @property
    def ok(self):
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def text(self):
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self):
        """The body, read as JSON."""
        return _json.loads(self.body)


def fetch(url, method="GET", headers=None, body=None, json=None, timeout=30):
    """Sends a request and reads the whole answer; a status of failure is an answer too.

    Raises OSError when there is none: the host is not allowed, not found, refuses, or takes longer than
    `timeout` seconds for a step.
    """
    # Not at the top: what they import is put in order before they are.
    import urllib.error
    import urllib.request

    headers = dict(headers or {})
    if json is not None:
        body = _json.dumps(json).encode()
        headers.setdefault("content-type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers.items(), answer.read())
    except urllib.error.HTTPError as answer:
        with answer:
            return Answer(answer.code, answer.headers.items(), answer.read())
