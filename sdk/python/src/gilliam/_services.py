"""The app's services: key-value, SQL, blobs. Each by its name in `[services]` of gilliam.toml."""

from urllib.parse import quote

from gilliam._call import call, call_json, encode, pages, query


class KeyValue:
    """A key-value service; values are JSON unless bytes are asked for."""

    def __init__(self, name):
        self._origin = f"http://{name}.internal"

    def _of(self, key):
        return f"{self._origin}/{quote(key, safe='')}"

    def _found(self, key):
        answer = call("GET", self._of(key), 404)
        return None if answer.status == 404 else answer

    def get(self, key, otherwise=None):
        """The value of a key, or what stands for it."""
        answer = self._found(key)
        return otherwise if answer is None else answer.json()

    def get_bytes(self, key):
        """The bytes of a key; None when it has none."""
        answer = self._found(key)
        return answer and answer.body

    def entry(self, key):
        """The value of a key and its version, for `if_still`; None when it has none."""
        answer = self._found(key)
        return answer and (answer.json(), answer.headers.get("etag"))

    def set(self, key, value, *, ttl=None, if_still=None, if_absent=False):
        """Sets a key, for `ttl` seconds. Answers whether it is set: False only when a condition does not hold."""
        headers = {}
        if if_still is not None:
            headers["if-match"] = if_still
        if if_absent:
            headers["if-none-match"] = "*"
        asked = query(ttl=None if ttl is None else f"{round(ttl * 1000)}ms")
        answer = call("PUT", f"{self._of(key)}{asked}", 412, body=encode(value), headers=headers)
        return answer.status != 412

    def delete(self, key):
        """Removes a key; it may have had no value."""
        call("DELETE", self._of(key), 404)

    def increment(self, key, by=1):
        """Adds to a number, which is 0 when there is none, in one step; answers the sum."""
        return call("POST", f"{self._of(key)}{query(increment=by)}").json()

    def keys(self, prefix=""):
        """The keys that begin so, in their order."""
        return pages(self._origin, prefix, "keys")


class Sql:
    """An SQL service."""

    def __init__(self, name):
        self._origin = f"http://{name}.internal"

    def query(self, sql, *params):
        """The rows of a statement as dicts: `db.query("select name from guests where id = ?", 7)`."""
        answer = self.run(sql, *params)
        return [dict(zip(answer["columns"], row)) for row in answer["rows"]]

    def run(self, sql, *params):
        """Runs a statement; answers `{"columns", "rows", "changes", "last_insert_id"}`."""
        return call_json(f"{self._origin}/query", {"sql": sql, "params": list(params)})

    def batch(self, statements):
        """Runs `(sql, *params)`, several of them, in one transaction: all of them happen or none."""
        asked = [{"sql": sql, "params": list(params)} for sql, *params in statements]
        return call_json(f"{self._origin}/batch", asked)


class Blobs:
    """A blob service; names may have slashes."""

    def __init__(self, name):
        self._origin = f"http://{name}.internal"

    def _call(self, method, name, **options):
        answer = call(method, f"{self._origin}/{quote(name)}", 404, **options)
        return None if answer.status == 404 else answer

    def put(self, name, content):
        """Writes a blob, text or bytes, in place of one of its name."""
        call("PUT", f"{self._origin}/{quote(name)}", body=content)

    def get(self, name, start=None, end=None):
        """A whole blob, or the bytes from `start` up to but without `end`; None when there is none."""
        headers = {}
        if start is not None:
            headers["range"] = f"bytes={start}-{'' if end is None else end - 1}"
        answer = self._call("GET", name, headers=headers)
        return answer and answer.body

    def size(self, name):
        """The size of a blob; None when there is none."""
        answer = self._call("HEAD", name)
        return answer and int(answer.headers.get("content-length", "0"))

    def delete(self, name):
        """Removes a blob; there may be none."""
        self._call("DELETE", name)

    def list(self, prefix=""):
        """The blobs whose names begin so, in their order, each with `name` and `bytes`."""
        return pages(self._origin, prefix, "objects")


def keyvalue(name):
    """A key-value service of the app."""
    return KeyValue(name)


def sql(name):
    """An SQL service of the app."""
    return Sql(name)


def blobs(name):
    """A blob service of the app."""
    return Blobs(name)
