"""A model hub and a file server on loopback."""

import contextlib
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

REVISION = "0" * 40
SCRIPTS = Path(__file__).parents[1] / "scripts"


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server with this handler; yields its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def listed(path: Path) -> dict[str, object]:
    """Describe a file as the hub does: weights with their sha256, small files with git's hash."""
    content = path.read_bytes()
    if path.suffix in (".safetensors", ".bin"):
        checksum = hashlib.sha256(content).hexdigest()
        lfs = {"sha256": checksum, "size": len(content), "pointerSize": 130}
        return {"rfilename": path.name, "lfs": lfs}
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"rfilename": path.name, "blobId": git}


def model_hub(models: Mapping[str, Path], files: Path | None = None) -> type:
    """Make a handler that serves models by name, and a folder of files under `/files/`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.content()
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def content(self) -> bytes | None:
            if files and self.path.startswith("/files/"):
                return (files / self.path.removeprefix("/files/")).read_bytes()
            for model, folder in models.items():
                api = rf"/api/models/{model}(?:/revision/(\w+))?\?blobs=true"
                if asked := re.fullmatch(api, self.path):
                    siblings = [listed(path) for path in folder.iterdir()]
                    answer = {"id": model, "sha": asked[1] or REVISION, "siblings": siblings}
                    return json.dumps(answer).encode()
                if re.match(f"/{model}/resolve/[0-9a-f]{{40}}/", self.path):
                    return (folder / self.path.rpartition("/")[2]).read_bytes()
            return None

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def download_encoder(
    hub: str, name: str, manifest: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the rule's script, in a process of its own: the client reads the address on import."""
    command = [sys.executable, SCRIPTS / "download_encoder.py"]
    options = ["--encoder", name, "--output", manifest]
    environment = os.environ | {"HF_ENDPOINT": hub} | variables
    return subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=120
    )
