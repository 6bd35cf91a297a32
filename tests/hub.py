"""A model hub and a file server on loopback."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

REVISION = "0" * 40


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Address of a server with this handler."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def model_hub(models: Mapping[str, Path], files: Path | None = None) -> type:
    """Handler of a hub that has these models, by name, and of `/files/`, those of a folder."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, headers = self.content()
            self.send_response(200 if content is not None else 404)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET  # noqa: N815

        def content(self) -> tuple[bytes | None, dict[str, str]]:
            if files and self.path.startswith("/files/"):
                return (files / self.path.removeprefix("/files/")).read_bytes(), {}
            for model, folder in models.items():
                answers = {
                    f"/api/models/{model}/revision/main": {"id": model, "sha": REVISION},
                    f"/api/models/{model}/tree/{REVISION}": [
                        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0"}
                        for path in folder.iterdir()
                        if path.is_file()
                    ],
                }
                if (answer := answers.get(self.path.partition("?")[0])) is not None:
                    return json.dumps(answer).encode(), {"Content-Type": "application/json"}
                if self.path.startswith(f"/{model}/resolve/{REVISION}/"):
                    content = (folder / self.path.rpartition("/")[2]).read_bytes()
                    tag = hashlib.sha1(content).hexdigest()
                    return content, {"ETag": f'"{tag}"', "X-Repo-Commit": REVISION}
            return None, {}

        def log_message(self, *args: object) -> None:
            pass

    return Handler
