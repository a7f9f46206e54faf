"""As much of HTTP/1.1 as the service speaks, over asyncio's streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from ._backoff import Backoff
from ._errors import Unreachable, error_of
from ._target import Target

_MOST_HEADERS = 100
_MOST_BODY = 64 * 1024 * 1024
_MOST_IDLE = 16
_LINE = 64 * 1024
_CLOSING = 1.0

_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What reading an answer raises when the connection broke, or when the answer is none."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Event(NamedTuple):
    """A server-sent event."""

    name: str
    data: Any
    id: str | None


class Http:
    """A server's connections, kept alive between calls. One event loop uses it."""

    def __init__(self, target: Target, backoff: Backoff) -> None:
        self._target = target
        self._backoff = backoff
        self._idle: list[Connection] = []
        self.closed = False
        """Whether the client was closed."""

    async def call(self, method: str, path: str, body: dict[str, Any] | None, within: float) -> Any:
        """Make a call and return its answer, which is JSON. A refusal is raised."""
        try:
            status, answer = await asyncio.wait_for(self._call(method, path, body), within)
        except TimeoutError:
            raise self._unreachable(f"it did not answer within {within:g} s") from None
        if status >= 400:
            raise error_of(status, answer)
        return answer

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        while self._idle:
            connection = self._idle.pop()
            if connection[0].at_eof():
                connection[1].transport.abort()
                continue
            with contextlib.suppress(_Stale):
                return await self._exchange(connection, method, path, body)
        try:
            return await self._exchange(await self._connect(), method, path, body)
        except _Stale:
            self._backoff.failed()
            raise

    async def _exchange(
        self, connection: Connection, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, Any]:
        """Send a request and read the answer. Calls are made such that a doubled one changes nothing."""
        reader, writer = connection
        keep = False
        try:
            writer.write(self._request(method, path, body))
            await writer.drain()
            status, headers = await _head(reader)
            data = await _body(reader, headers, status)
            keep = headers.get("connection", "").lower() != "close"
        except _BROKEN as error:
            raise _Stale(self._text(f"the connection broke: {error}")) from error
        finally:
            # Cancelled, too: an answer that is still on its way belongs to no other call.
            if keep and not self.closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                # Without TLS's farewell, which the event loop may not live to hear.
                writer.transport.abort()
        self._backoff.reached()
        try:
            return status, json.loads(data) if data else None
        except ValueError:
            return status, None

    async def stream(self, path: str, last: str | None = None) -> AsyncIterator[Event]:
        """Yield the events of a stream until it ends."""
        reader, writer = await self._connect()
        try:
            writer.write(self._request("GET", path, None, last))
            await writer.drain()
            status, headers = await _head(reader)
            if status >= 400:
                data = await _body(reader, headers, status)
                self._backoff.reached()
                raise error_of(status, _json(data))
            self._backoff.reached()
            async for event in _events(_lines(reader, headers)):
                yield event
        except _BROKEN as error:
            raise self._unreachable(f"the stream broke: {error}") from error
        finally:
            # Its end is a failure, too, so that one that ends again and again is not asked for without a pause.
            self._backoff.failed()
            writer.transport.abort()

    async def _connect(self) -> Connection:
        await self._backoff.turn()
        target = self._target
        try:
            name = target.host if target.tls is not None else None
            return await asyncio.open_connection(
                target.host, target.port, ssl=target.tls, server_hostname=name, limit=_LINE
            )
        except OSError as error:
            self._backoff.failed()
            raise self._unreachable(f"{error}; {_advice(error)}") from error

    def _request(self, method: str, path: str, body: dict[str, Any] | None, last: str | None = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode("utf-8", "replace")
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._target.authority}", "user-agent: keylatch-python"]
        if self._target.token is not None:
            lines.append(f"authorization: Bearer {self._target.token}")
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(data)}"]
        if last is not None:
            lines.append(f"last-event-id: {last}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + data

    def _text(self, problem: str) -> str:
        return f"no answer from {self._target.url}: {problem}"

    def _unreachable(self, problem: str) -> Unreachable:
        return Unreachable(self._text(problem))

    async def close(self) -> None:
        """Close the connections that no call uses, and keep none from now on."""
        self.closed = True
        idle, self._idle = self._idle, []
        for _, writer in idle:
            writer.close()
        closing = [writer.wait_closed() for _, writer in idle]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), _CLOSING)


def _advice(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "give tls= a file with the roots of its certificate, and connect by a name that is in there"
    if isinstance(error, ssl.SSLError):
        return "is the URL https:// where it should be http://?"
    return "is it running, and is the address right?"


class _Stale(Unreachable):
    """A connection broke; if it was kept from an earlier call, a new one may do."""


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    line = await _line(reader)
    version, _, rest = line.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise ValueError("it does not speak HTTP/1.1; is the URL http:// where it should be https://?")
    headers: dict[str, str] = {}
    for _ in range(_MOST_HEADERS):
        line = await _line(reader)
        if not line:
            return int(status), headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise ValueError("it has too many headers")


async def _line(reader: asyncio.StreamReader) -> str:
    line = await reader.readuntil(b"\n")
    return line.rstrip(b"\r\n").decode("latin-1")


async def _body(reader: asyncio.StreamReader, headers: dict[str, str], status: int) -> bytes:
    if status == 204 or status < 200:
        return b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces, length = [], 0
        async for piece in _chunks(reader):
            length += len(piece)
            if length > _MOST_BODY:
                raise ValueError("its answer is too long")
            pieces.append(piece)
        return b"".join(pieces)
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _MOST_BODY:
        raise ValueError("its answer is too long")
    return await reader.readexactly(length)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        length = int((await _line(reader)).partition(";")[0], 16)
        if not 0 <= length <= _MOST_BODY:
            raise ValueError("its answer is too long")
        if length == 0:
            while await _line(reader):
                pass
            return
        yield await reader.readexactly(length)
        await reader.readexactly(2)


async def _lines(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[str]:
    """Yield the lines of a stream, however its pieces were cut."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        while not reader.at_eof():
            if line := await reader.readline():
                yield line.rstrip(b"\r\n").decode()
        return
    rest = b""
    async for piece in _chunks(reader):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MOST_BODY:
            raise ValueError("an event is too long")
        for line in lines:
            yield line.rstrip(b"\r").decode()


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    data: list[str] = []
    name, identity = "message", None
    async for line in lines:
        if not line:
            if data:
                yield Event(name, _json("\n".join(data).encode()), identity)
            name, data, identity = "message", [], None
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id":
                identity = value
