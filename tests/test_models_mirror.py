"""Fetching the same bytes as another machine: by its lock, and from its models folder. A real server on loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_hub_server import COMMIT, Hub
from model_making import NAME, SMALL, WEIGHTS, WHISPER, Silent, a_hub, ct2, entry, roomtone, write
from roomtone import cli, models, outbound
from roomtone.core.persona import Egress
from roomtone.model_supply import hub as model_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with a_hub(monkeypatch) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


# --------------------------------------------------------------------------------------- pinned, updated


def test_a_copied_lock_makes_another_machine_fetch_the_same_bytes(
    hub: Hub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_hub.pull(entry(SMALL), folder, Silent())
    model_hub.pull(entry(NAME), folder, Silent())
    other = write(tmp_path / "second" / "models", {models.LOCK: (folder / models.LOCK).read_bytes()})
    hub.asked.clear()
    assert cli.main(["models", "pull", "pinned", "--state-dir", str(tmp_path / "second")]) == 0
    assert {path.split("/")[4] for _, path, _ in hub.asked} == {COMMIT}, "the commit that is pinned"
    assert (other / models.LOCK).read_bytes() == (folder / models.LOCK).read_bytes()
    assert cli.main(["models", "verify", "--state-dir", str(tmp_path / "second")]) == 0


def test_other_bytes_than_those_pinned_are_refused_before_they_are_fetched_unless_an_update_is_asked_for(
    hub: Hub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roomtone(tmp_path, "pull", SMALL) == 0
    (folder / "whisper" / "tiny.en" / "model.bin").write_bytes(b"half")
    hub.files["Systran/faster-whisper-tiny.en/model.bin"] = ct2(weights=b"of another day")
    hub.asked.clear()
    assert roomtone(tmp_path, "pull", SMALL) == 1
    assert f"roomtone models pull --update {SMALL}" in capsys.readouterr().err
    assert hub.gets() == []
    assert roomtone(tmp_path, "pull", "--update", SMALL) == 0
    assert models.verify("whisper", "tiny.en", folder) == []
    assert (folder / "whisper" / "tiny.en" / "model.bin").read_bytes() == ct2(weights=b"of another day")


# --------------------------------------------------------------------------------- a mirror, an offline house


@pytest.fixture
def mirrored(hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pull two models, serve that folder as plain files, and let a second machine use it for a mirror."""
    model_hub.pull(entry(SMALL), folder, Silent())
    model_hub.pull(entry(NAME), folder, Silent())
    hub.plain = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.asked.clear()
    monkeypatch.setenv("ROOMTONE__MODELS__MIRROR", f"{hub.url}/")
    return tmp_path / "second"


def pull(state: Path, *names: str) -> int:
    return cli.main(["models", "pull", *names, "--state-dir", str(state)])


def test_a_mirror_is_the_models_folder_of_another_machine(hub: Hub, folder: Path, mirrored: Path) -> None:
    assert pull(mirrored, SMALL, NAME) == 0
    assert (mirrored / "models" / models.LOCK).read_bytes() == (folder / models.LOCK).read_bytes()
    assert models.verify("whisper", "tiny.en", mirrored / "models") == []
    assert models.verify("piper", NAME, mirrored / "models") == []
    assert not any("/resolve/" in path for _, path, _ in hub.asked), "the hub itself is not asked"


def test_a_pull_from_a_mirror_goes_on_where_it_broke_off(hub: Hub, mirrored: Path) -> None:
    hub.breaks_off_after = 4000
    assert pull(mirrored, SMALL) == 0
    assert [span for name, span in hub.gets() if name == "model.bin"][:2] == ["", "bytes=4000-"]


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (None, r"is not at http://.* \(404\)"),
        (b"<html>", "is no lock of models; models.mirror is to name a models folder"),
        (b'{"models": {}}', f"has no whole {SMALL} \\(it has: none\\)"),
        (
            b'{"models": {"%s": {"source": "x", "files": {"../../../evil": {"size": 1, "sha256": "0"}}}}}'
            % SMALL.encode(),
            "names files that whisper-tiny.en does not have",
        ),
    ],
)
def test_a_mirror_that_has_it_not_is_one_line(
    hub: Hub, mirrored: Path, capsys: pytest.CaptureFixture[str], lock: bytes | None, said: str
) -> None:
    hub.plain = {} if lock is None else {models.LOCK: lock}
    assert pull(mirrored, SMALL) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(said, err)
    assert not (mirrored / "models" / "whisper").exists()


def test_a_mirror_whose_file_is_cut_short_is_not_taken(
    hub: Hub, mirrored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.plain["whisper/tiny.en/model.bin"] = WHISPER["model.bin"][:-100]
    assert pull(mirrored, SMALL) == 1
    assert "did not arrive as" in capsys.readouterr().err
    assert models.present("whisper", mirrored / "models") == []


def test_a_model_nobody_but_the_mirror_knows_is_pulled_by_its_name(hub: Hub, folder: Path, mirrored: Path) -> None:
    incoming = write(models.incoming_of("llama", "butler", folder), {"butler.gguf": WEIGHTS})
    models.put_in_place(incoming, "llama", "butler", folder, "/home/me/butler.gguf")
    hub.plain = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert pull(mirrored, "llm-butler") == 0
    assert models.verify("llama", "butler", mirrored / "models") == []


def test_an_offline_house_asks_nobody_beyond_it(
    hub: Hub, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__FEATURES__OFFLINE_MODE", "true")
    monkeypatch.setattr(outbound, "_declared", {"127.0.0.1": Egress.ANY})
    assert roomtone(tmp_path, "pull", SMALL) == 1
    err = capsys.readouterr().err
    assert "is beyond the house, and features.offline_mode is on" in err
    assert "roomtone models import PATH" in err
    assert hub.asked == []
    monkeypatch.setattr(outbound, "_declared", {"127.0.0.1": Egress.LAN})
    assert roomtone(tmp_path, "pull", SMALL) == 0
