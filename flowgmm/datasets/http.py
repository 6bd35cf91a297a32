"""Download of one file from one address: retries, resuming, refused answers."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm.utils.io import write_text
from flowgmm.utils.progress import Progress

if TYPE_CHECKING:
    import requests

__all__ = ["RefusedError", "RetriableError", "fetch", "holds_part"]

# Seconds to connect, and without data after which a download has failed.
CONNECT_S = 15.0
TIMEOUT_S = 60.0
# Seconds before the second try; twice as many before each further one, at most `LONGEST_S`.
WAIT_S = 1.0
LONGEST_S = 60.0
# Statuses of servers that may answer otherwise a moment later.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_BLOCK = 2**20


class RefusedError(Exception):
    """An address that does not give the file: another try would end in the same way."""


class RetriableError(Exception):
    """A download that failed, but may succeed when it is tried again.

    Arguments:
        reason: Reason.
        wait: Seconds to wait that the server asks for.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str,
    path: Path,
    verify: Callable[[Path], None],
    retries: int = 3,
    progress: Progress | None = None,
) -> None:
    """Download a file; a connection that breaks off goes on where it stopped.

    A try that came further than all before does not count as failed, so that a large file comes
    over any number of short connections, in this call or in several.

    Arguments:
        url: Address.
        path: Path of the file. After a failure it may hold a part, and the next call goes on there
            (`holds_part`).
        verify: Called with the whole file; it raises `RetriableError` for a wrong one.
        retries: Number of further tries after a timeout, a broken connection, a wrong file, or the
            answer that the server is busy or broken. Unknown hosts, other statuses (403, 404, 410)
            and web pages in place of the file are not tried again.
        progress: Called at most every few seconds with (bytes, bytes in all or 0, line of text).

    Raises:
        RefusedError: If the file did not come.
    """
    transfer = _Transfer(url, path, progress)
    failed, furthest = 0, transfer.received
    while True:
        try:
            transfer.receive()
            try:
                verify(path)
            except RetriableError:
                transfer.restart()
                raise
            transfer.end()
            return
        except RetriableError as error:
            failed = 1 if transfer.received > furthest else failed + 1
            furthest = max(furthest, transfer.received)
            if failed > retries:
                raise RefusedError(str(error)) from error
            time.sleep(min(max(error.wait, WAIT_S * 2 ** (failed - 1)), LONGEST_S))


def holds_part(path: Path) -> bool:
    """True for a part of a file from which `fetch` goes on."""
    return path.is_file() and _note(path).is_file()


def _note(path: Path) -> Path:
    """File beside a part with the ETag or date of the whole, as the server named it."""
    return path.with_name(f"{path.name}.version")


class _Transfer:
    """State of a download over several connections, and over several runs.

    Attributes:
        received: Bytes of the file so far.
    """

    def __init__(self, url: str, path: Path, progress: Progress | None) -> None:
        self._url, self._path = url, path
        self._report = _Report(path.name, progress)
        # ETag or date by which the server tells whether the file is still the same.
        self._version: str | None = None
        self.received = 0
        if holds_part(path):
            self._version = _note(path).read_text(encoding="utf-8")
            self.received = path.stat().st_size

    def restart(self) -> None:
        """Forget what came."""
        self.received, self._version = 0, None
        self.end()
        self._path.unlink(missing_ok=True)

    def end(self) -> None:
        """Make what came a whole file, no part of one."""
        _note(self._path).unlink(missing_ok=True)

    def receive(self) -> None:
        """Open a connection and write what comes, after what came before.

        Raises:
            RefusedError: If the answer is not the file.
            RetriableError: If the connection failed or broke off.
        """
        import requests
        import urllib3

        # As they are: a packed file is not to arrive unpacked.
        headers = {"Accept-Encoding": "identity"}
        if self._version is None or not self.received:
            self.restart()
        else:
            headers |= {"Range": f"bytes={self.received}-", "If-Range": self._version}
        try:
            with requests.get(
                self._url, headers=headers, stream=True, timeout=(CONNECT_S, TIMEOUT_S)
            ) as response:
                if not self._is_whole(response):
                    self._check(response)
                    self._write(response)
        except requests.exceptions.ConnectionError as error:
            if _unknown_host(error):
                raise RefusedError(f"host not found ({_line(error)})") from error
            raise RetriableError(_line(error)) from error
        except requests.exceptions.Timeout as error:
            raise RetriableError(_line(error)) from error
        except requests.exceptions.RequestException as error:
            raise RefusedError(_line(error)) from error
        except urllib3.exceptions.HTTPError as error:  # while the body is read
            raise RetriableError(_line(error)) from error

    def _is_whole(self, response: "requests.Response") -> bool:
        """True if the server has no more than what came: a run ended before it was verified."""
        whole = response.headers.get("Content-Range") == f"bytes */{self.received}"
        return response.status_code == 416 and whole

    def _check(self, response: "requests.Response") -> None:
        """Check status and kind of an answer, and whether it goes on where the last one stopped."""
        status = response.status_code
        if status == 416:
            self.restart()
        if status in _PASSING or status == 416:
            asked = response.headers.get("Retry-After", "")
            wait = float(asked) if asked.isdecimal() else 0.0
            raise RetriableError(f"status {status} {response.reason}", wait)
        if status not in (200, 206):
            raise RefusedError(f"status {status} {response.reason}")
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise RefusedError("the answer is a web page")
        span = response.headers.get("Content-Range", "")
        entity = response.headers.get("ETag", "")
        strong = entity if entity.startswith('"') else None
        version = strong or response.headers.get("Last-Modified")
        if status == 200:
            self.restart()
            self._version = version
            if version is not None:
                write_text(_note(self._path), version)
        elif version not in (None, self._version):
            self.restart()
            raise RetriableError("the server sent a part of another file")
        elif not self.received or not span.startswith(f"bytes {self.received}-"):
            self.restart()
            raise RetriableError(f"the server sent another part of the file ({span!r})")

    def _write(self, response: "requests.Response") -> None:
        length = response.headers.get("Content-Length", "")
        total = self.received + int(length) if length.isdecimal() else 0
        with self._path.open("ab") as part:
            for block in response.raw.stream(_BLOCK, decode_content=False):
                if not self.received and _is_page(block):
                    raise RefusedError("the answer is a web page")
                part.write(block)
                self.received += len(block)
                self._report(len(block), self.received, total)


class _Report:
    """Call `progress` every few seconds, and at the end."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self._name, self._progress = name, progress
        self._moved, self._reported, self._start = 0, 0.0, time.monotonic()

    def __call__(self, moved: int, done: int, total: int) -> None:
        """Count `moved` further bytes, of which there are now `done`."""
        self._moved += moved
        elapsed = time.monotonic() - self._start
        if self._progress and (elapsed - self._reported > 3 or done == total):
            self._reported = elapsed
            rate = self._moved / 1e6 / max(elapsed, 1e-9)
            self._progress(done, total, f"{self._name}: {rate:.1f} MB/s")


def _is_page(start: bytes) -> bool:
    text = start[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html"))


def _unknown_host(error: Exception) -> bool:
    from urllib3.exceptions import NameResolutionError

    reasons = [getattr(argument, "reason", None) for argument in error.args]
    return any(isinstance(reason, NameResolutionError) for reason in reasons)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
