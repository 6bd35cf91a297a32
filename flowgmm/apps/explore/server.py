"""HTTP server of the page on which a feature inside an image flow is moved.

It serves the page (`page.html`) and the answers of `flowgmm.apps.explore.explorer.Explorer` on this
machine alone, under an address with a secret token.
"""

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import numpy as np

from flowgmm.apps.explore.explorer import Explorer
from flowgmm.utils.errors import UserError

__all__ = ["Server", "page"]

# Largest question in bytes; a real one has a few hundred.
MOST_BYTES = 10_000
# The page is one file that connects only to its own server.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page() -> bytes:
    """The page, UTF-8."""
    return files("flowgmm.apps.explore").joinpath("page.html").read_bytes()


class Server(ThreadingHTTPServer):
    """HTTP server of the page and its answers, on 127.0.0.1.

    Every address starts with a token that is new at each start, so that pages of other sites, which
    cannot guess it, get no answer. No address is a path of the file system.

    Arguments:
        explorer: Computes the answers.
        port: Port; 0: any free one.

    Raises:
        UserError: If the port is not available.
    """

    daemon_threads = True

    def __init__(self, explorer: Explorer, port: int = 0):
        self.token = secrets.token_urlsafe(24)
        self.answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "describe": explorer.describe,
            "originals": explorer.originals,
            "frame": explorer.frame,
            "classify": explorer.classify,
            "histogram": explorer.histogram,
        }
        # One thread computes: two would share the cores, and each would start threads of its own.
        self.worker = ThreadPoolExecutor(max_workers=1)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {port} is not available ({error}); give another --port, or none for a "
                "free one"
            ) from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a fault, unless the browser closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Close the port and the thread."""
        super().server_close()
        self.worker.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"  # one connection for all frames
    disable_nagle_algorithm = True  # a frame must not wait for the next packet

    def do_GET(self) -> None:
        if (name := self._name()) is None:
            return
        if name:
            self._refuse(HTTPStatus.NOT_FOUND, "page not found")
        else:
            self._send(page(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if (name := self._name()) is None:
            return
        if name not in self.server.answers:
            self._refuse(HTTPStatus.NOT_FOUND, f"question not found: {name}")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self._refuse(HTTPStatus.BAD_REQUEST, f"a question has at most {MOST_BYTES} bytes")
            return
        start = time.perf_counter()
        try:
            question = json.loads(self.rfile.read(int(length)))
            if not isinstance(question, dict):
                raise ValueError("a question is a JSON object")
            answer = self.server.worker.submit(self.server.answers[name], question).result()
        except (UserError, ValueError) as error:  # of JSON too
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        seconds = time.perf_counter() - start
        if isinstance(answer, np.ndarray):
            self._send(answer.tobytes(), "application/octet-stream", seconds=seconds)
        else:
            self._send(json.dumps(answer).encode(), "application/json", seconds=seconds)

    def _name(self) -> str | None:
        """Part of the path after the token; None if the token is wrong."""
        token, _, name = self.path[1:].partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(
                HTTPStatus.FORBIDDEN, "token missing or wrong; use the address that explore printed"
            )
            return None
        return name

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        # An unread question would be parsed as the connection's next request.
        self.close_connection = True
        self._send(json.dumps({"error": reason}).encode(), "application/json", status)

    def _send(
        self,
        body: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        seconds: float | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if seconds is not None:
            self.send_header("Server-Timing", f"answer;dur={1000 * seconds:.1f}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: a line for each frame would fill the screen."""
