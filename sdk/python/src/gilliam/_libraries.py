"""Libraries that expect more of Python than there is here, and what is done about each."""

import importlib.util
import io
import sys
import types


def before():
    """Before libraries are imported: modules that some only name."""
    if importlib.util.find_spec("_ssl") is None:
        sys.modules["ssl"] = _no_ssl()


def after():
    """After libraries are imported."""
    import tempfile

    from gilliam import _outgoing, _threads

    _outgoing.install()
    tokenize = sys.modules.get("tokenize")
    if tokenize is not None:
        tokenize._builtin_open = open
    _threads.install()
    tempfile.tempdir = "/tmp"
    tempfile.TemporaryFile = _temporary_file
    tempfile.NamedTemporaryFile = _named_temporary_file
    if "urllib3.connection" in sys.modules:
        _outgoing.fit_urllib3(sys.modules["urllib3.connection"])


def _no_ssl():
    """A module in place of `ssl`, for libraries that import it and do without: the platform speaks TLS."""
    module = types.ModuleType("ssl", _no_ssl.__doc__)

    class SSLError(OSError):
        pass

    def absent(*_, **__):
        raise SSLError(
            "there is no ssl in WebAssembly's Python: use https URLs with urllib.request or gilliam.fetch"
        )

    class SSLContext:
        """Takes all settings, and makes no connection."""

        def __init__(self, *_, **__):
            pass

        def __getattr__(self, name):
            return absent if name.startswith("wrap_") else lambda *_, **__: None

    module.SSLContext = SSLContext
    for name in ("SSLObject", "SSLSocket", "MemoryBIO", "SSLSession", "Purpose", "TLSVersion"):
        setattr(
            module,
            name,
            type(
                name,
                (),
                {
                    "__init__": absent,
                    "SERVER_AUTH": 1,
                    "CLIENT_AUTH": 2,
                    "TLSv1_2": 771,
                    "TLSv1_3": 772,
                    "MINIMUM_SUPPORTED": -2,
                    "MAXIMUM_SUPPORTED": -1,
                },
            ),
        )
    for name in (
        "SSLWantReadError",
        "SSLWantWriteError",
        "SSLZeroReturnError",
        "SSLEOFError",
        "SSLSyscallError",
    ):
        setattr(module, name, type(name, (SSLError,), {}))
    module.SSLError = SSLError
    module.SSLCertVerificationError = module.CertificateError = type(
        "SSLCertVerificationError", (SSLError,), {}
    )
    module.create_default_context = module._create_default_https_context = SSLContext
    module.wrap_socket = absent
    for number, name in enumerate(("CERT_NONE", "CERT_OPTIONAL", "CERT_REQUIRED")):
        setattr(module, name, number)
    for name in (
        "PROTOCOL_TLS",
        "PROTOCOL_TLS_CLIENT",
        "PROTOCOL_TLS_SERVER",
        "OP_NO_TLSv1",
        "OP_NO_TLSv1_1",
        "OP_NO_COMPRESSION",
        "OP_NO_TICKET",
        "OP_IGNORE_UNEXPECTED_EOF",
        "VERIFY_X509_STRICT",
        "VERIFY_X509_PARTIAL_CHAIN",
    ):
        setattr(module, name, 0)
    module.HAS_SNI = module.HAS_ALPN = False
    module.OPENSSL_VERSION = "none"
    return module


def _temporary_file(mode="w+b", buffering=-1, encoding=None, newline=None, *_, errors=None, **__):
    file = io.BytesIO()
    return file if "b" in mode else io.TextIOWrapper(file, encoding or "utf-8", errors, newline)


def _named_temporary_file(
    mode="w+b",
    buffering=-1,
    encoding=None,
    newline=None,
    suffix=None,
    prefix=None,
    dir=None,
    delete=True,
    *,
    errors=None,
    delete_on_close=True,
):
    import tempfile

    path = tempfile.mktemp(suffix or "", prefix or "tmp", dir or tempfile.gettempdir())
    file = open(path, mode, buffering, encoding, errors, newline)
    return tempfile._TemporaryFileWrapper(file, path, delete, delete_on_close)
