from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from eearth import manifest
from eearth.errors import WorkspaceError
from eearth.manifest import MANIFEST, Manifest, file_digest, folder_digest, output_digests, redacted, write_json

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Manifest(
    stage="download",
    eearth="0.1.0",
    settings={"region": "r.geojson", "workers": 8},
    origins={"region": "flag"},
    inputs={"region": "ab" * 32},
    paths={"region": "/home/me/r.geojson"},
    outputs={"cube.zarr": "cd" * 32},
    seed=3,
    seconds=1.5,
    figures={"scenes": 4},
    records={"scenes": [{"id": "a", "time": "2023-08-15T10:00:00+00:00"}]},
)


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    PLAIN.write(tmp_path)
    assert Manifest.read(tmp_path) == PLAIN
    assert json.loads((tmp_path / MANIFEST).read_text())["digest"] == PLAIN.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST]


@pytest.mark.parametrize(
    "change",
    [
        {"eearth": "0.2.0"},
        {"seconds": 99.0},
        {"origins": {"region": "environment"}},
        {"paths": {"region": "/elsewhere/r.geojson"}},
        {"how": {"region": "../r.geojson", "workers": 2}},
    ],
)
def test_what_changes_nothing_keeps_the_digest(change: dict[str, Any]) -> None:
    assert replace(PLAIN, **change).digest == PLAIN.digest


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "predict"},
        {"settings": {"region": "r.geojson", "workers": 9}},
        {"inputs": {"region": "ef" * 32}},
        {"outputs": {"cube.zarr": "ef" * 32}},
        {"outputs": {}},
        {"seed": 4},
        {"figures": {"scenes": 5}},
        {"records": {}},
    ],
)
def test_what_changes_something_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(PLAIN, **change).digest != PLAIN.digest


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "3",
        lambda _: '{"stage": "download"}',
        lambda text: text.replace('"seed"', '"sead"'),
        lambda text: text.replace('"workers": 8', '"workers": 9'),
        lambda text: text.replace("cdcd", "cece", 1),
    ],
)
def test_a_spoilt_manifest_is_refused_in_one_line(tmp_path: Path, spoil: Any) -> None:
    PLAIN.write(tmp_path)
    path = tmp_path / MANIFEST
    path.write_text(spoil(path.read_text()))
    with pytest.raises(WorkspaceError, match=f"remove {tmp_path} and run") as caught:
        Manifest.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_manifest_at_all(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="expected a finished stage's manifest"):
        Manifest.read(tmp_path)


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes" * 100_000)
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"bytes" * 100_000).hexdigest()


def _tree(folder: Path) -> Path:
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "b" / "x").write_text("2")
    (folder / "b" / "c" / "y").write_text("3")
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "b" / "x").write_text("4"),
        lambda folder: (folder / "b" / "x").rename(folder / "b" / "z"),
        lambda folder: (folder / "b" / "x").rename(folder / "b" / "c" / "x"),
        lambda folder: (folder / "b" / "new").write_text(""),
        lambda folder: (folder / "a").unlink(),
    ],
)
def test_a_folders_digest_is_that_of_its_names_and_contents(tmp_path: Path, change: Any) -> None:
    one, two = _tree(tmp_path / "one"), tmp_path / "two"
    shutil.copytree(one, two)
    assert folder_digest(one) == folder_digest(two)
    change(two)
    assert folder_digest(one) != folder_digest(two)


def test_a_folders_digest_is_the_same_however_many_files_are_hashed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle hashes one file after another, in the order of the paths."""
    total, content = hashlib.sha256(), b"0123456789" * 9
    for number in range(50):
        path = tmp_path / f"c{number % 7}" / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[number:])
    for path in sorted(tmp_path.rglob("*/*")):
        total.update(f"{path.relative_to(tmp_path)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for at_once in (1, 7, 50, 1024):
        monkeypatch.setattr(manifest, "FILES_AT_ONCE", at_once)
        counts: list[int] = []
        assert folder_digest(tmp_path, counts.append) == total.hexdigest()
        assert sum(counts) == 50
    (tmp_path / "empty").mkdir()
    assert folder_digest(tmp_path) == total.hexdigest()
    assert folder_digest(tmp_path / "empty") == hashlib.sha256().hexdigest()


def test_outputs_are_what_lies_directly_in_the_folder(tmp_path: Path) -> None:
    folder = _tree(tmp_path / "one")
    PLAIN.write(folder)
    assert output_digests(folder) == {"a": file_digest(folder / "a"), "b": folder_digest(folder / "b")}


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example/b.tif?sig=hush&x=1 cannot be read", "https://a.example/b.tif cannot be read"),
        ("'/vsicurl/https://a.example/b.tif?sig=hush' not found", "'/vsicurl/https://a.example/b.tif' not found"),
        ("https://me:hush@a.example/b and https://you@c.example", "https://a.example/b and https://c.example"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_addresses_lose_their_secrets(text: str, expected: str) -> None:
    assert redacted(text) == expected
