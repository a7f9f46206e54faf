"""Where the server is, and how to show who asks."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_SERVER = "http://127.0.0.1:7373"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and what a client shows it."""

    host: str
    """Its name or address."""
    port: int
    """Its port."""
    tls: ssl.SSLContext | None = field(repr=False)
    """How its certificate is checked, and which one is shown to it; None for plain text."""
    token: str | None = field(repr=False)
    """The bearer token."""

    @property
    def url(self) -> str:
        """The server, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    @property
    def authority(self) -> str:
        """What the header Host says."""
        return self.url.partition("://")[2]


def target_of(server: str | None, token: str | None, tls: ssl.SSLContext | str | None) -> Target:
    """Return the target for a URL; what is not given comes from KEYLATCH_SERVER, KEYLATCH_TOKEN and KEYLATCH_TLS_ROOTS."""
    server = server or os.environ.get("KEYLATCH_SERVER") or DEFAULT_SERVER
    token = token or os.environ.get("KEYLATCH_TOKEN") or None
    roots = tls or os.environ.get("KEYLATCH_TLS_ROOTS") or None
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{server!r} is no server: write http://host:port or https://host:port")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{server!r} has no port from 1 to 65535") from error
    if parts.username is not None:
        raise ValueError(
            "a server's URL carries no user or password: give a token, or a TLS context with a certificate"
        )
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("a token is printable ASCII without blanks; this one is not, and is not shown")
    secure = parts.scheme == "https"
    if token is not None and not secure and parts.hostname not in _LOOPBACK:
        raise ValueError(f"a token is not sent to {parts.hostname} in plain text: use https://")
    context = _context(roots) if secure else None
    return Target(parts.hostname, port or (443 if secure else 80), context, token)


def _context(roots: ssl.SSLContext | str | None) -> ssl.SSLContext:
    if isinstance(roots, ssl.SSLContext):
        return roots
    if roots is not None and not Path(roots).is_file():
        raise ValueError(f"{roots!r} is no file with root certificates in PEM")
    return ssl.create_default_context(cafile=roots)
