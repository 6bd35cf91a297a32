"""Raw files from servers, from archives, from a mirror and from this machine."""

import gzip
import hashlib
import http.server
import io
import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml
from hub import serving

from flowgmm.datasets.download import absent, download_file, resolve
from flowgmm.datasets.registry import dataset_spec
from flowgmm.experiments.checks import load_checked as load_config
from flowgmm.experiments.entries import as_written
from flowgmm.utils.errors import UserError

ROOT = Path(__file__).parents[2]
DATASETS = {name: as_written(entry) for name, entry in load_config(ROOT).datasets.items()}
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/datasets.schema.yaml").read_text())

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>"
PACKED = gzip.compress(CONTENT)


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return data.getvalue()


def tarred(mode, **members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


ARCHIVES = {
    "zip": zipped(readme=b"x", folder__file=CONTENT),
    "tgz": tarred("w:gz", folder__other=b"x", folder__file=CONTENT),
    "tar": tarred("w", folder__file=CONTENT),
    "two.zip": zipped(a__file=CONTENT, b__file=CONTENT),
    "none.zip": zipped(a__other=CONTENT),
    "wrong.zip": zipped(folder__file=CONTENT[::-1]),
    "cut.zip": zipped(folder__file=CONTENT)[:-30],
    "cut.tgz": tarred("w:gz", folder__file=CONTENT)[:-30],
}
BODIES = {"whole": CONTENT, "other": CONTENT[::-1], "page": PAGE, "packed": PACKED, **ARCHIVES}


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by path: a body of `BODIES`, a status, or the fault of this name.

    `hits` are the paths asked for, `asked` the headers of the requests.
    """

    hits: list[str]
    asked: list[dict[str, str]]

    def do_GET(self):
        name = self.path[1:]
        self.hits.append(self.path)
        self.asked.append(dict(self.headers))
        first = self.hits.count(self.path) == 1
        if name.startswith("once-"):
            name = name.removeprefix("once-") if first else "whole"
        if name.startswith("resume"):
            self.resume(name)
        elif name == "half":
            self.answer(200, CONTENT[:5000], length=len(CONTENT))
        elif name == "mislabelled":
            self.answer(200, CONTENT, {"Content-Type": "text/html; charset=utf-8"})
        elif name == "encoded":
            self.answer(200, PACKED, {"Content-Encoding": "gzip"})
        elif name.isdecimal():
            self.answer(int(name), b"", {"Retry-After": "0"})
        else:
            self.answer(200 if name in BODIES else 404, BODIES.get(name, b""))

    def resume(self, name):
        """Send at most 3000 bytes a connection, from where the request says."""
        version = {"ETag": '"1"'} if name != "resume-unversioned" else {}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        start = int(start[1])
        if name == "resume-changed" and start and self.hits.count(self.path) == 2:
            start, version = 0, {"ETag": '"2"'}
        if name == "resume-careless" and start and self.hits.count(self.path) == 2:
            version = {"ETag": '"2"'}
        if name == "resume-elsewhere" and start:
            start -= 1
        if start == len(CONTENT):
            self.answer(416, b"", {"Content-Range": f"bytes */{start}"})
            return
        rest = CONTENT[start:]
        span = (
            {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
        )
        self.answer(206 if start else 200, rest[:3000], version | span, len(rest))

    def answer(self, status, body, headers=(), length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """Address of the server, and its list of hits."""
    monkeypatch.setattr("flowgmm.datasets.http.WAIT_S", 0.0)
    Server.hits, Server.asked = [], []
    with serving(Server) as url:
        yield url, Server.hits


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"md5": MD5}, {}])
def test_download(server, tmp_path, known):
    url, _ = server
    lines = []
    target = tmp_path / "raw" / "file"
    got = download_file(
        {"url": [f"{url}/whole"], **known}, target, None, lambda *line: lines.append(line)
    )
    assert got == SHA256 and target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert lines[-1][:2] == (len(CONTENT), len(CONTENT)) and "MB/s" in lines[-1][2]


def test_second_url_and_retry(server, tmp_path):
    url, hits = server
    urls = [f"{url}/other", f"{url}/whole"]
    assert download_file({"url": urls, "md5": MD5}, tmp_path / "file", None, retries=1) == SHA256
    assert hits == ["/other", "/other", "/whole"]


@pytest.mark.parametrize(
    ("path", "known", "message"),
    [
        ("/other", {"sha256": SHA256}, f"expected sha256:{SHA256}"),
        ("/half", {"sha256": SHA256}, "5000 bytes read"),
        ("/half", {}, "5000 bytes read"),
        ("/missing", {"md5": MD5}, "404"),
    ],
)
def test_failed_download_leaves_nothing(server, tmp_path, path, known, message):
    url, _ = server
    target = tmp_path / "file"
    target.write_text("what was there before")
    file = {"url": [url + path], "mirror": "a/file", **known}
    with pytest.raises(
        UserError, match=f"cannot download file .*{message}.*set `mirror`"
    ) as caught:
        download_file(file, target, None, retries=0)
    assert url + path in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_unreachable(tmp_path):
    with pytest.raises(UserError, match=r"cannot download file .*127.0.0.1:1/x.*check the network"):
        download_file({"url": ["http://127.0.0.1:1/x"]}, tmp_path / "file", None, retries=0)


def test_mirror_goes_before_the_network(server, tmp_path):
    """A file that it has is taken from it, right or wrong; any other is downloaded."""
    url, hits = server
    mirror, target = tmp_path / "mirror", tmp_path / "raw" / "file"
    mirror.mkdir()
    file = {"url": [f"{url}/whole"], "sha256": SHA256, "mirror": "copy"}
    assert download_file(file, target, mirror) == SHA256
    assert hits == ["/whole"]
    (mirror / "copy").write_bytes(CONTENT)
    assert download_file(file, target, mirror) == SHA256
    for spoiled in (CONTENT[:100], b"x" + CONTENT[1:]):
        (mirror / "copy").write_bytes(spoiled)
        got = hashlib.sha256(spoiled).hexdigest()
        with pytest.raises(
            UserError, match=f"copy .{len(spoiled)} bytes.*{got}, expected .*{SHA256}"
        ):
            download_file(file, target, mirror)
        assert not list(target.parent.iterdir())
    assert hits == ["/whole"]


def test_offline_nothing_is_asked(server, tmp_path):
    url, hits = server
    mirror, target = tmp_path / "mirror", tmp_path / "raw" / "file"
    mirror.mkdir()
    file = {"url": [f"{url}/whole"], "sha256": SHA256, "mirror": "copy"}
    for folder in (mirror, None):
        with pytest.raises(UserError, match="copy not found; add it to a mirror or unset `off"):
            download_file(file, target, folder, offline=True)
    (mirror / "copy").write_bytes(CONTENT)
    assert download_file(file, target, mirror, offline=True) == SHA256
    assert not hits


def test_a_file_without_address_comes_from_the_mirror_alone(tmp_path):
    with pytest.raises(UserError, match="copy not found; add it to the mirror or unset"):
        download_file({"mirror": "copy"}, tmp_path / "file", tmp_path)


def test_mirror_that_is_not_there(tmp_path):
    for call in (
        lambda: download_file({"mirror": "a"}, tmp_path / "file", tmp_path / "none"),
        lambda: absent({"files": {}}, tmp_path / "none"),
        lambda: resolve({}, tmp_path / "none"),
    ):
        with pytest.raises(
            UserError, match="none' is not a folder; correct `mirror` in the config"
        ):
            call()


@pytest.mark.parametrize(
    ("file", "mirrored", "offline", "expected"),
    [
        ({"url": ["http://localhost/f"], "mirror": "a/f"}, None, False, None),
        ({"url": ["http://localhost/f"], "mirror": "a/f"}, False, False, None),
        ({"url": ["http://localhost/f"], "mirror": "a/f"}, True, True, None),
        (
            {"url": ["http://localhost/f"], "mirror": "a/f"},
            False,
            True,
            "data absent: the mirror lacks a/f",
        ),
        ({"url": ["http://localhost/f"]}, None, True, "data absent: `offline` is set, and no"),
        ({"url": ["http://localhost/f"]}, False, True, "data absent: the mirror lacks f"),
        ({"mirror": "a/f"}, None, False, "f has no URL; set `mirror` to a folder that has a/f"),
        ({"mirror": "a/f"}, False, False, "data absent: the mirror lacks a/f"),
        ({"mirror": "a/f"}, True, False, None),
        ({"rules": "made"}, None, True, None),
    ],
)
def test_absent(tmp_path, file, mirrored, offline, expected):
    """`mirrored`: None without a mirror, else whether it has the file."""
    if mirrored:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "f").touch()
    got = absent({"files": {"f": file}}, None if mirrored is None else tmp_path, offline)
    assert got is expected is None or got.startswith(expected)
    assert absent({}, tmp_path, offline) is None


def test_alternative_stands_in_and_says_so(tmp_path):
    entry = DATASETS["ag_news"]
    folder = tmp_path / "ag_news_csv"
    folder.mkdir()
    (folder / "test.csv").touch()
    assert absent(entry, tmp_path, True) == "data absent: the mirror lacks ag_news_csv/train.csv"
    (folder / "train_partial.csv.gz").touch()
    spec = dataset_spec("ag_news", entry, tmp_path)
    assert spec["files"]["train.csv"]["mirror"] == "ag_news_csv/train_partial.csv.gz"
    assert spec["rows"] == {"train": 67_200, "test": 7600}
    assert spec["not_comparable"] == ["67,200 of 120,000 training texts"]
    assert "67,200" in spec["notes"][0]
    (folder / "train.csv").touch()
    official = dataset_spec("ag_news", entry, tmp_path)
    assert official == dataset_spec("ag_news", entry, None)
    assert official["rows"] == {"train": 120_000, "test": 7600} and not official["not_comparable"]


# Addresses


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_busy_servers_are_asked_again(server, tmp_path, status):
    url, hits = server
    assert download_file({"url": [f"{url}/once-{status}"]}, tmp_path / "file", None) == SHA256
    assert len(hits) == 2


@pytest.mark.parametrize("path", ["404", "410", "403", "401", "page", "mislabelled"])
def test_what_cannot_change_is_asked_once(server, tmp_path, path):
    url, hits = server
    with pytest.raises(UserError, match=r"status 4|web page"):
        download_file({"url": [f"{url}/{path}"]}, tmp_path / "file", None)
    assert hits == [f"/{path}"]
    assert download_file({"url": [f"{url}/{path}", f"{url}/whole"]}, tmp_path / "file", None)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_unknown_host_is_asked_once(tmp_path, monkeypatch):
    """With waits as they are: trying again would take seconds."""
    asked = []
    monkeypatch.setattr("time.sleep", asked.append)
    with pytest.raises(UserError, match="host not found"):
        download_file({"url": ["http://host.invalid/x"]}, tmp_path / "file", None)
    assert not asked


def test_all_reasons_and_what_to_do_are_said(server, tmp_path):
    url, _ = server
    file = {"url": [f"{url}/404", {"url": f"{url}/page"}, f"{url}/other"], "md5": MD5}
    with pytest.raises(UserError) as caught:
        download_file(file, tmp_path / "file", None, retries=0)
    said = str(caught.value)
    assert re.search(r"/404: status 404.*/page: the answer is a web page; .*/other: .*md5", said)
    assert all(word in said for word in ("network", "`url`", "`path`", "`skip`"))


def test_files_arrive_as_they_are(server, tmp_path):
    """A server that calls a .gz an encoding must not make it arrive unpacked."""
    url, _ = server
    expected = hashlib.sha256(PACKED).hexdigest()
    for name in ("packed", "encoded"):
        file = {"url": [f"{url}/{name}"], "sha256": expected}
        assert download_file(file, tmp_path / name, None) == expected
    assert {headers["Accept-Encoding"] for headers in Server.asked} == {"identity"}


@pytest.mark.parametrize(
    ("known", "own"),
    [
        ({"md5": "0" * 32}, {"sha256": SHA256}),
        ({"sha256": "0" * 64}, {"md5": MD5}),
        ({}, {"sha256": SHA256}),
        ({"sha256": SHA256}, {}),
    ],
)
def test_an_address_may_have_its_own_checksum(server, tmp_path, known, own):
    url, hits = server
    sources = [{"url": f"{url}/other", **own}, {"url": f"{url}/whole", **own}]
    file = {"url": sources, **known}
    assert download_file(file, tmp_path / "file", None, retries=0) == SHA256
    assert hits == ["/other", "/whole"]


# Archives


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar"])
@pytest.mark.parametrize("member", ["folder/file", "file"])
@pytest.mark.parametrize("known", [{"sha256": SHA256}, {}])
def test_member_of_an_archive(server, tmp_path, kind, member, known):
    url, _ = server
    own = {"sha256": hashlib.sha256(ARCHIVES[kind]).hexdigest()}
    source = {"url": f"{url}/{kind}", "member": member, **own}
    assert download_file({"url": [source], **known}, tmp_path / "raw" / "f", None) == SHA256
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("two.zip", "has 2 files 'file'; it has a/file, b/file"),
        ("none.zip", "has 0 files 'file'; it has a/other"),
        ("wrong.zip", f"file .*expected sha256:{SHA256}"),
        ("cut.zip", "no archive that can be read"),
        ("cut.tgz", "no archive that can be read"),
        ("whole", "no archive that can be read"),
    ],
)
def test_archives_that_do_not_have_it(server, tmp_path, kind, reason):
    url, _ = server
    bad, good = ({"url": f"{url}/{name}", "member": "file"} for name in (kind, "zip"))
    with pytest.raises(UserError, match=reason):
        download_file({"url": [bad], "sha256": SHA256}, tmp_path / "f", None)
    assert not list(tmp_path.iterdir())
    assert download_file({"url": [bad, good], "sha256": SHA256}, tmp_path / "f", None) == SHA256


# Resuming


def test_broken_connections_go_on_where_they_stopped(server, tmp_path):
    """Any number of them: each that brings bytes is no failure."""
    url, _ = server
    file = {"url": [f"{url}/resume"], "sha256": SHA256}
    lines = []
    got = download_file(file, tmp_path / "f", None, lambda *line: lines.append(line), retries=1)
    assert got == SHA256
    ranges = [headers.get("Range") for headers in Server.asked]
    assert ranges == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]
    assert {headers.get("If-Range") for headers in Server.asked[1:]} == {'"1"'}
    assert lines[-1][:2] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("fault", ["changed", "careless", "elsewhere", "unversioned"])
def test_parts_of_different_files_are_never_joined(server, tmp_path, fault):
    url, _ = server
    sources = [f"{url}/resume-{fault}", f"{url}/whole"]
    download_file({"url": sources}, tmp_path / "f", None, retries=2)
    assert (tmp_path / "f").read_bytes() == CONTENT
    starts = Counter(headers.get("Range") for headers in Server.asked)
    assert fault != "unversioned" or set(starts) == {None}


# The config


def valid(url):
    file = {"f": {"url": url, "mirror": "f"}}
    jsonschema.validate({"d": {**DATASETS["moons"], "files": file}}, SCHEMA)


def test_addresses_in_the_config():
    valid(["http://host/f", {"url": "https://host/f.zip", "sha256": "0" * 64, "member": "f"}])
    for wrong in (
        "http://host/f",
        ["ftp://host/f"],
        [{"member": "f"}],
        [{"url": "host/f"}],
        [{"url": "http://host/f", "sha256": "0"}],
        [{"url": "http://host/f", "member": ""}],
        [{"url": "http://host/f", "mirror": "f"}],
        [],
    ):
        with pytest.raises(jsonschema.ValidationError):
            valid(wrong)


def test_every_dataset_that_is_downloaded_has_two_addresses_or_a_checksum():
    for name, entry in DATASETS.items():
        for file in entry.get("files", {}).values():
            urls = file.get("url", [])
            known = file.keys() & {"sha256", "md5"}
            assert not urls or known or len(urls) > 1, name


def part_of(folder):
    """The part that an unfinished download left in a folder."""
    (part,) = folder.glob(".f.*.part/f")
    return part


def starts():
    """First byte of each request, None at the start."""
    return [headers.get("Range") for headers in Server.asked]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_next_run_goes_on_where_the_last_one_stopped(server, tmp_path, elsewhere):
    url, _ = server
    target, parts = tmp_path / "raw" / "f", tmp_path / "parts" if elsewhere else None
    (parts or target.parent).mkdir()
    file = {"url": [f"{url}/404", f"{url}/resume"], "sha256": SHA256}
    for received in (3000, 6000, 9000):
        with pytest.raises(UserError, match="cannot download f"):
            download_file(file, target, None, retries=0, parts=parts)
        assert part_of(parts or target.parent).read_bytes() == CONTENT[:received]
        assert not target.exists()
    assert download_file(file, target, None, retries=0, parts=parts) == SHA256
    assert starts()[1::2] == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]
    left = [path for path in tmp_path.rglob("*") if path.is_file() or ".part" in path.name]
    assert left == [target]


def begin(url, folder, **known):
    """Download a part of a file; the file's entry."""
    file = {"url": [url], **known}
    with pytest.raises(UserError, match="cannot download f"):
        download_file(file, folder / "f", None, retries=0)
    return file


@pytest.mark.parametrize("fault", ["changed", "careless", "elsewhere"])
def test_a_file_that_changed_between_runs_is_not_joined(server, tmp_path, fault):
    url, _ = server
    file = begin(f"{url}/resume-{fault}", tmp_path, sha256=SHA256)
    assert part_of(tmp_path).stat().st_size == 3000
    with pytest.raises(UserError, match="cannot download f"):
        download_file(file, tmp_path / "f", None, retries=0)
    if fault == "changed":  # the new file, from its start
        assert part_of(tmp_path).read_bytes() == CONTENT[:3000]
    else:
        assert not list(tmp_path.iterdir())
    file["url"].append(f"{url}/whole")
    assert download_file(file, tmp_path / "f", None, retries=3) == SHA256


def test_a_damaged_part_is_found_by_the_checksum(server, tmp_path):
    url, _ = server
    file = begin(f"{url}/resume", tmp_path, sha256=SHA256)
    part_of(tmp_path).write_bytes(bytes(3000))
    assert download_file(file, tmp_path / "f", None, retries=6) == SHA256
    assert starts().count(None) == 2


def test_a_whole_part_is_verified_not_fetched(server, tmp_path):
    url, _ = server
    file = begin(f"{url}/resume", tmp_path, sha256=SHA256)
    part_of(tmp_path).write_bytes(CONTENT)
    assert download_file(file, tmp_path / "f", None, retries=0) == SHA256
    assert starts() == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(("name", "known"), [("resume-unversioned", {"md5": MD5}), ("resume", {})])
def test_a_part_that_could_not_be_verified_is_not_kept(server, tmp_path, name, known):
    """Neither without a version of the server's, nor without a checksum."""
    url, _ = server
    begin(f"{url}/{name}", tmp_path, **known)
    assert not list(tmp_path.iterdir())
