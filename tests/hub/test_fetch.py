"""Fetching through huggingface_hub's own client from a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from avatar import AvatarPipeline
from avatar.cli import main
from avatar.debug import write_debug_files
from avatar.dit.published import PUBLISHED_PRESETS
from avatar.errors import MissingDependencyError, OptionError, OutputError
from avatar.hub.fetch import RemoteFile, fetch
from avatar.hub.files import Place, is_complete, place_of

SYSTEM = "echomimic-v3"
PRESET = PUBLISHED_PRESETS[SYSTEM]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin")


@dataclass
class Hub:
    """Repositories in a folder, served as the hub serves them.

    Attributes:
        root: folder with OWNER/NAME folders.
        got: paths of files that were downloaded.
        damaged: names of files whose content comes changed.
        gone: repositories that are not there.
    """

    root: Path
    got: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)

    def listing(self, repository: str) -> dict[str, object]:
        folder = self.root / repository
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        siblings = [self._sibling(path, path.relative_to(folder).as_posix()) for path in files]
        return {"id": repository, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False, "downloads": 0}

    def _sibling(self, path: Path, name: str) -> dict[str, object]:
        entry: dict[str, object] = {
            "rfilename": name,
            "size": path.stat().st_size,
            "blobId": _git_id(path.read_bytes()),
        }
        if path.suffix in LARGE:
            entry["lfs"] = {"sha256": _sha256(path.read_bytes()), "size": path.stat().st_size, "pointerSize": 100}
        return entry


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        repository = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repository in self.hub.gone or not (self.hub.root / repository).is_dir():
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, body)
        elif parts[0] == "api" and "tree" in parts:
            tree = [self._tree_entry(each) for each in self.hub.listing(repository)["siblings"]]  # type: ignore[attr-defined]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
        elif parts[0] == "api":
            content = json.dumps(self.hub.listing(repository)).encode()
            self._send(200, content, {"Content-Type": "application/json"}, body)
        else:
            self._send_file(repository, "/".join(parts[4:]), body)

    def _tree_entry(self, sibling: dict[str, object]) -> dict[str, object]:
        entry = {"type": "file", "path": sibling["rfilename"], "size": sibling["size"], "oid": sibling["blobId"]}
        if "lfs" in sibling:
            lfs = dict(sibling["lfs"])  # type: ignore[call-overload]
            entry["lfs"] = {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 100}
        return entry

    def _send_file(self, repository: str, name: str, body: bool) -> None:
        content = (self.hub.root / repository / name).read_bytes()
        etag = _sha256(content) if Path(name).suffix in LARGE else _git_id(content)
        if body:
            self.hub.got.append(f"{repository}/{name}")
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        begin = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        start = int(begin or 0)
        if body and start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if body and start else 200, content[start:] if body else content, headers, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_debug_files(tmp_path_factory.mktemp("hub") / "published", SYSTEM)
    (root / PRESET.adapter.repository / "not-needed.txt").write_text("a demo\n")
    return root


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    served = Hub(published)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": served}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    yield served
    server.shutdown()
    server.server_close()


def test_sizes_are_told_first_and_the_folder_is_a_preset(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "models"
    assert main(["fetch", SYSTEM, "--to", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{folder}\n"
    told = [line for line in printed.err.splitlines() if line.startswith("avatar:")]
    assert told[0].startswith("avatar: base: alibaba-pai/Wan2.1-Fun-V1.1-1.3B-InP, 0.00 GB, licence: Apache-2.0")
    assert told[4] == f"avatar: together 0.00 GB, into {folder}"
    assert told[5].startswith("avatar: checking alibaba-pai/Wan2.1-Fun-V1.1-1.3B-InP: 2 files")
    assert not any("not-needed" in name for name in hub.got)
    assert place_of(folder).preset is PRESET and place_of(folder).missing() == []
    assert AvatarPipeline.from_pretrained(folder).preset.name == SYSTEM


def test_the_cache_is_where_the_preset_is_looked_for_by_name(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(Place(PRESET).missing()) == 4
    assert fetch(SYSTEM) == tmp_path / "cache"
    assert Place(PRESET).missing() == []
    assert main(["presets"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{SYSTEM} ")]
    assert row.endswith("Apache-2.0                      yes")
    assert main(["presets", SYSTEM]) == 0
    shown = capsys.readouterr().out
    assert "use it:  --preset echomimic-v3" in shown and str(tmp_path / "cache") in shown
    assert AvatarPipeline.from_pretrained(SYSTEM).preset.name == SYSTEM


def test_what_is_there_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    folder = fetch(SYSTEM, tmp_path / "models")
    assert len(hub.got) == len(set(hub.got)) > 10
    hub.got.clear()
    shutil.rmtree(folder / PRESET.encoder.repository)
    fetch(SYSTEM, folder)
    assert {name.rpartition("/")[0] for name in hub.got} == {PRESET.encoder.repository}


@pytest.mark.parametrize("to", [None, "models"])
@pytest.mark.parametrize("name", [PRESET.adapter.files[0], "tokenizer/tokenizer_config.json"])
def test_a_damaged_file_is_found_deleted_and_fetched_anew(hub: Hub, tmp_path: Path, name: str, to: str | None) -> None:
    folder = None if to is None else tmp_path / to
    hub.damaged = {name}
    with pytest.raises(MissingDependencyError, match=f"{name} came damaged .* and was deleted; run the same command"):
        fetch(SYSTEM, folder)
    assert Place(PRESET, folder).missing()
    hub.damaged.clear()
    fetch(SYSTEM, folder)
    assert Place(PRESET, folder).missing() == []


def test_a_repository_that_is_gone_and_a_file_that_is_gone_are_named(hub: Hub, tmp_path: Path) -> None:
    hub.gone = {PRESET.adapter.repository}
    with pytest.raises(MissingDependencyError, match="huggingface.co has no repository BadToBest/EchoMimicV3"):
        fetch(SYSTEM, tmp_path / "models")
    hub.gone.clear()
    hub.root = shutil.copytree(hub.root, tmp_path / "changed")
    (hub.root / PRESET.adapter.repository / PRESET.adapter.files[0]).unlink()
    with pytest.raises(MissingDependencyError, match=f"BadToBest/EchoMimicV3 has no file {PRESET.adapter.files[0]}"):
        fetch(SYSTEM, tmp_path / "models")
    assert hub.got == []  # everything is looked at before anything is fetched


def test_room_is_checked_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("avatar.hub.fetch.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="are to be fetched, and the disk of .*models has 0.0 GB free; .* with --to"):
        fetch(SYSTEM, tmp_path / "models")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file; name a folder"):
        fetch(SYSTEM, tmp_path / "file")
    assert hub.got == []


@pytest.mark.parametrize("how", ["closed", "offline"])
def test_without_a_network_repositories_and_the_other_way_are_named(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline")
    assert main(["fetch", "multitalk", "--to", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("avatar: error: huggingface.co cannot be reached (")
    for words in ("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "MeiGen-AI/MeiGen-MultiTalk", "--preset FOLDER:multitalk"):
        assert words in line
    assert list(tmp_path.iterdir()) == []


def test_only_published_presets_can_be_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "nonsense"]) == 2
    assert "'nonsense' is neither a preset nor" in capsys.readouterr().err
    with pytest.raises(
        OptionError, match="'embedded' needs no files from elsewhere; published presets: fantasytalking"
    ):
        fetch("embedded")


def test_checksums_are_the_hubs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert RemoteFile("file", 6, None, "ce013625030ba8dba906f756967f9e9ca394464a").is_intact(path)  # git hash-object
    assert RemoteFile("file", 6, _sha256(b"hello\n"), None).is_intact(path)
    assert not RemoteFile("file", 6, _sha256(b"hallo\n"), None).is_intact(path)
    assert not RemoteFile("file", 7, None, None).is_intact(path)
    assert not RemoteFile("file", 6, None, None).is_intact(tmp_path / "nothing")


def test_shards_that_an_index_names_must_be_there(tmp_path: Path) -> None:
    download = PUBLISHED_PRESETS["multitalk"].base.download
    parts = {"transformer": ["diffusers", "X"], "vae": ["diffusers", "Y"], "transformer_2": [None, None]}
    for name in ("transformer", "vae"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert not is_complete(tmp_path, download)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "Z", **parts}))
    (tmp_path / "vae" / "model.safetensors").touch()
    assert not is_complete(tmp_path, download)  # the transformer has settings alone
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (tmp_path / "transformer" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "transformer" / names[0]).touch()
    assert not is_complete(tmp_path, download)
    (tmp_path / "transformer" / names[1]).touch()
    assert is_complete(tmp_path, download)
    (tmp_path / "transformer" / "model.safetensors.index.json").write_text("{")
    assert not is_complete(tmp_path, download)
