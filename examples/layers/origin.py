"""A slow origin of layers, which counts how often it had to send each."""

from __future__ import annotations

import collections
import hashlib
import http.server
import threading
import time

SIZE = 256 * 1024
PIECE = 16 * 1024


def layer(number: int) -> bytes:
    """Return the bytes of a layer."""
    return hashlib.sha256(str(number).encode()).digest() * (SIZE // 32)


class Origin:
    """An HTTP server on loopback. The first download of a layer in `stalls` stops half-way, until its client is gone."""

    def __init__(self, layers: int, *, stalls: int, pause: float = 0.005) -> None:
        self.layers = {hashlib.sha256(data).hexdigest(): data for data in map(layer, range(layers))}
        self.begun: collections.Counter[str] = collections.Counter()
        self.completed: collections.Counter[str] = collections.Counter()
        self.stalled = threading.Event()
        self.stalled_worker = ""
        self._stalls = set(list(self.layers)[:stalls])
        self._pause = pause
        self._lock = threading.Lock()
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                origin._send(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _send(self, request: http.server.BaseHTTPRequestHandler) -> None:
        digest = request.path.strip("/")
        data = self.layers.get(digest)
        if data is None:
            request.send_error(404)
            return
        with self._lock:
            self.begun[digest] += 1
            stalls = digest in self._stalls and self.begun[digest] == 1
        request.send_response(200)
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        for begin in range(0, len(data), PIECE):
            if stalls and begin >= len(data) // 2:
                self.stalled_worker = request.headers.get("x-worker", "")
                self.stalled.set()
                # Returns when the client is gone, however it went.
                request.connection.recv(1)
                return
            request.wfile.write(data[begin : begin + PIECE])
            time.sleep(self._pause)
        with self._lock:
            self.completed[digest] += 1

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
