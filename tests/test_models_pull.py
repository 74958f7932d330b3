"""Fetching models. The hub is a real HTTP server on loopback, with ways to fail."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_hub_server import COMMIT, Hub
from model_making import (
    NAME,
    PIPER,
    SMALL,
    WAKE,
    WHISPER,
    Silent,
    a_hub,
    ct2,
    entry,
    json_rows,
    onnx,
    roomtone,
    write,
)
from roomtone import cli, models, outbound
from roomtone.core.errors import ModelError, StateBusy
from roomtone.core.persona import Egress
from roomtone.model_supply import fetching
from roomtone.model_supply import hub as model_hub
from roomtone.models import placing
from roomtone.store import FILE_NAME


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with a_hub(monkeypatch) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


# ---------------------------------------------------------------------------------------------- pull


def test_a_pulled_model_is_whole_and_recorded(hub: Hub, folder: Path) -> None:
    bar = Silent()
    record = model_hub.pull(entry(SMALL), folder, bar)
    assert models.installed("whisper", folder) == ["tiny.en"]
    assert models.verify("whisper", "tiny.en", folder) == []
    assert models.pinned("whisper", "tiny.en", folder) == record
    assert record.source == f"Systran/faster-whisper-tiny.en@{COMMIT}"
    assert bar.moved == sum(map(len, WHISPER.values()))
    assert not models.incoming_of("whisper", "tiny.en", folder).exists()


def test_a_pulled_voice_stands_beside_its_json(hub: Hub, folder: Path) -> None:
    model_hub.pull(entry(NAME), folder, Silent())
    assert models.installed("piper", folder) == [NAME]
    assert (folder / "piper" / f"{NAME}.onnx").read_bytes() == PIPER[f"{NAME}.onnx"]
    assert (folder / "piper" / f"{NAME}.onnx.json").read_bytes() == PIPER[f"{NAME}.onnx.json"]


def test_nothing_is_asked_for_but_the_files_of_the_model(hub: Hub, folder: Path) -> None:
    model_hub.pull(entry(SMALL), folder, Silent())
    revision = entry(SMALL).revision
    for method, path, _ in hub.asked:
        assert path.startswith("/Systran/faster-whisper-tiny.en/resolve/")
        assert path.split("/")[4] == (COMMIT if method == "GET" else path.split("/")[4])
    assert hub.asked[0][1].split("/")[4] == revision
    assert len(hub.asked) == 2 * len(WHISPER)


def test_a_download_that_breaks_off_is_taken_up_where_it_ended(hub: Hub, folder: Path) -> None:
    hub.breaks_off_after = 1000
    model_hub.pull(entry(SMALL), folder, Silent())
    spans = [span for name, span in hub.gets() if name == "model.bin"]
    assert spans[:3] == ["", "bytes=1000-", "bytes=2000-"]
    assert models.verify("whisper", "tiny.en", folder) == []


def test_a_pull_that_was_ended_goes_on_the_next_time(hub: Hub, folder: Path) -> None:
    class Impatient(Silent):
        def move(self, count: int) -> None:
            super().move(count)
            if self.begun[-1][0] == "model.bin":
                raise KeyboardInterrupt

    hub.breaks_off_after = 4000
    with pytest.raises(KeyboardInterrupt):
        model_hub.pull(entry(SMALL), folder, Impatient())
    assert models.present("whisper", folder) == []
    hub.asked.clear()
    bar = Silent()
    model_hub.pull(entry(SMALL), folder, bar)
    assert "config.json" not in [name for name, _ in hub.gets()], "what had arrived whole is not fetched again"
    assert hub.gets()[0] == ("model.bin", f"bytes={bar.begun[0][1]}-")
    assert bar.begun[0][1] > 0
    assert models.verify("whisper", "tiny.en", folder) == []


def iter_parts(hub: Hub, folder: Path, incoming: Path) -> Iterator[Path]:
    """Name the file under which model.bin arrives."""
    yield incoming / f"model.bin.{hashlib.sha256(WHISPER['model.bin']).hexdigest()[:16]}.part"


def test_a_server_that_knows_no_ranges_is_asked_for_the_whole_file(hub: Hub, folder: Path) -> None:
    hub.ignores_ranges = True
    incoming = write(models.incoming_of("whisper", "tiny.en", folder), {})
    next(iter_parts(hub, folder, incoming)).write_bytes(b"x" * 5000)
    bar = Silent()
    model_hub.pull(entry(SMALL), folder, bar)
    assert models.verify("whisper", "tiny.en", folder) == []
    assert bar.moved == sum(map(len, WHISPER.values())) - 5000


def test_a_file_of_another_hash_is_thrown_away_and_what_was_there_stays(hub: Hub, folder: Path) -> None:
    model_hub.pull(entry(SMALL), folder, Silent())
    hub.files["Systran/faster-whisper-tiny.en/model.bin"] = ct2(weights=b"other")
    hub.lies_about = "model.bin"
    with pytest.raises(ModelError, match=r"model\.bin did not arrive as the hub has it.*roomtone models pull"):
        model_hub.pull(entry(SMALL), folder, Silent())
    assert models.verify("whisper", "tiny.en", folder) == []
    assert (folder / "whisper" / "tiny.en" / "model.bin").read_bytes() == WHISPER["model.bin"]


def test_a_model_that_is_none_is_not_put_in_place(hub: Hub, folder: Path) -> None:
    hub.files["Systran/faster-whisper-tiny.en/model.bin"] = b"<html>please log in</html>"
    with pytest.raises(ModelError, match=r"model\.bin is not a CTranslate2 model"):
        model_hub.pull(entry(SMALL), folder, Silent())
    assert models.present("whisper", folder) == []


def test_a_disk_that_fills_while_a_model_is_put_in_place_is_one_line(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> models.Pin:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(models, "put_in_place", full)
    with pytest.raises(ModelError, match=r"No space left on device.*what has arrived is kept"):
        model_hub.pull(entry(SMALL), folder, Silent())


@pytest.mark.parametrize(("status", "said"), [(404, "is not at"), (401, "is not at"), (503, "answers with an error")])
def test_a_refusal_is_one_line(hub: Hub, folder: Path, status: int, said: str) -> None:
    hub.answers = status
    with pytest.raises(ModelError, match=said) as caught:
        model_hub.pull(entry(SMALL), folder, Silent())
    assert "\n" not in caught.value.message
    assert models.present("whisper", folder) == []


def test_a_file_longer_or_shorter_than_promised_is_not_taken(hub: Hub, folder: Path) -> None:
    for sent in (WHISPER["model.bin"] + b"more", WHISPER["model.bin"][:-100]):
        hub.sends = sent
        with pytest.raises(ModelError, match="did not arrive as the hub has it"):
            model_hub.pull(entry(SMALL), folder, Silent())
        assert models.present("whisper", folder) == []


def test_large_files_are_fetched_from_where_the_hub_sends_one(hub: Hub, folder: Path) -> None:
    hub.redirects = True
    hub.breaks_off_after = 4000
    model_hub.pull(entry(SMALL), folder, Silent())
    assert models.verify("whisper", "tiny.en", folder) == []
    assert any(path.startswith("/cdn/") for _, path, _ in hub.asked)


def test_a_hub_that_hangs_is_given_up(hub: Hub, folder: Path) -> None:
    hub.breaks_off_after = 0
    hub.hangs.set()
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        model_hub.pull(entry(SMALL), folder, Silent())
    assert "\n" not in caught.value.message
    assert len(hub.gets()) == fetching.TRIES
    assert models.present("whisper", folder) == []


def test_a_hub_that_stalls_once_is_asked_again(hub: Hub, folder: Path) -> None:
    hub.breaks_off_after = len(WHISPER["model.bin"]) - 500
    hub.hangs.set()
    model_hub.pull(entry(SMALL), folder, Silent())
    assert ("model.bin", f"bytes={hub.breaks_off_after}-") in hub.gets()
    assert models.verify("whisper", "tiny.en", folder) == []


def test_no_network_is_one_line_with_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert roomtone(tmp_path, "pull", SMALL) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "cannot be reached" in err
    assert "roomtone models import PATH" in err


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, hub: Hub, folder: Path
) -> None:
    class Full:
        free = models.SPARE_BYTES + 5000

    monkeypatch.setattr(placing.shutil, "disk_usage", lambda _: Full)
    with pytest.raises(ModelError, match=r"whisper-tiny\.en needs 50 MB free .* and .* has 50 MB; make room"):
        model_hub.pull(entry(SMALL), folder, Silent())
    assert hub.gets() == []


def test_one_process_at_a_time_fetches_a_model(hub: Hub, folder: Path) -> None:
    class Meddling(Silent):
        def begin(self, file: str, done: int, total: int) -> None:
            with pytest.raises(StateBusy):
                model_hub.pull(entry(SMALL), folder, Silent())

    model_hub.pull(entry(SMALL), folder, Meddling())


def test_without_the_hubs_library_it_is_said_what_installs_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(fetching, "lacking", lambda module, extra: f"{module} is not installed; run: pip install x")
    with pytest.raises(ModelError, match=r"run: pip install x; or take in a folder: roomtone models import PATH"):
        model_hub.pull(entry(SMALL), folder, Silent())


def test_pull_fetches_only_what_is_not_here_and_whole(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roomtone(tmp_path, "pull", SMALL, NAME, "--json") == 0
    assert [(row["name"], row["fetched"]) for row in json_rows(capsys)] == [(SMALL, True), (NAME, True)]
    (tmp_path / "state" / "models" / "piper" / f"{NAME}.onnx").write_bytes(onnx(b"x" * 300))
    hub.asked.clear()
    assert roomtone(tmp_path, "pull", SMALL, NAME, "--json") == 0
    assert [(row["name"], row["fetched"]) for row in json_rows(capsys)] == [(SMALL, False), (NAME, True)]
    assert {name for name, _ in hub.gets()} == {f"{NAME}.onnx"}, "its JSON was whole"


def test_a_pull_is_on_the_receipt_however_it_ends(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "_declared", {"127.0.0.1": Egress.ANY})
    assert roomtone(tmp_path, "pull", SMALL) == 0
    assert roomtone(tmp_path, "pull", SMALL) == 0
    hub.answers = 503
    assert roomtone(tmp_path, "pull", NAME) == 1
    monkeypatch.setattr(placing, "SPARE_BYTES", 2**62)
    assert roomtone(tmp_path, "pull", NAME) == 1
    capsys.readouterr()
    assert cli.main(["receipt", "--json", "--since", "1h", "--state-dir", str(tmp_path / "state")]) == 0
    *rows, total = json_rows(capsys)
    assert [(row["host"], row["reach"], row["kind"], row["why"]) for row in rows] == [
        ("127.0.0.1", "any", "text", "model download")
    ] * 2, "what is here already, and what there is no room for, is not asked for"
    assert total["total"]["text"] == sum(row["bytes"] for row in rows) > 0


def test_a_pull_that_cannot_be_put_on_the_receipt_is_done_all_the_same(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "_declared", {"127.0.0.1": Egress.ANY})
    (tmp_path / "state" / FILE_NAME).mkdir(parents=True)
    assert roomtone(tmp_path, "pull", SMALL) == 0
    assert "is not on the receipt: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind", "own", "files"),
    [
        ("llm-qwen3-4b", "llama", "qwen3-4b", ["qwen3-4b.gguf"]),
        (
            "embed-all-MiniLM-L6-v2",
            "embed",
            "all-MiniLM-L6-v2",
            ["all-MiniLM-L6-v2/model.onnx", "all-MiniLM-L6-v2/tokenizer.json"],
        ),
    ],
)
def test_a_language_model_and_an_embedder_come_and_go_as_the_others_do(
    hub: Hub,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: str,
    own: str,
    files: list[str],
) -> None:
    for typed in (name, own):  # the second time it is there
        assert roomtone(tmp_path, "pull", typed) == 0
    assert models.installed(kind, folder) == [own]
    assert all((folder / kind / file).is_file() for file in files)
    assert roomtone(tmp_path, "verify", name) == 0
    whole = (folder / kind / files[0]).read_bytes()
    (folder / kind / files[0]).write_bytes(whole[:-40])
    assert roomtone(tmp_path, "verify") == 1
    assert f"roomtone models pull {name}" in capsys.readouterr().err
    assert roomtone(tmp_path, "pull", own) == 0
    assert models.verify(kind, own, folder) == []
    capsys.readouterr()
    assert roomtone(tmp_path, "list", "--json") == 0
    rows = {row["name"]: row for row in json_rows(capsys)}
    assert (rows[name]["kind"], rows[name]["state"], rows[name]["licence"]) == (kind, "installed", "Apache-2.0")
    assert rows[name]["bytes"] == models.size_of(models.path_of(kind, own, folder)) >= len(whole)
    assert roomtone(tmp_path, "remove", own) == 0
    assert models.present(kind, folder) == []
    assert [path for path in (folder / kind).iterdir() if own in path.name] == []


def test_a_disk_that_fills_meanwhile_ends_the_pull_and_what_has_arrived_stays(
    monkeypatch: pytest.MonkeyPatch, hub: Hub, folder: Path
) -> None:
    class Disk:
        free, eaten = placing.SPARE_BYTES + 41_000_000, 30_000_000

    def used(_: object) -> type[Disk]:
        Disk.free -= Disk.eaten if hub.gets() else 0
        return Disk

    whole = ct2(weights=bytes(40_000_000))
    hub.files["Systran/faster-whisper-tiny.en/model.bin"] = whole
    monkeypatch.setattr(placing.shutil, "disk_usage", used)
    with pytest.raises(
        ModelError, match=r"needs 74 MB free \(50 MB of them stay so\), and .* has [0-9]+ MB; make room"
    ):
        model_hub.pull(entry(SMALL), folder, Silent())
    assert 0 < models.arrived("whisper", "tiny.en", folder) < len(whole)
    hub.asked.clear()
    Disk.free, Disk.eaten = placing.SPARE_BYTES + 35_000_000, 0  # not enough for all of it, but for the rest
    model_hub.pull(entry(SMALL), folder, Silent())
    assert hub.gets()[0][1].startswith("bytes=")


def test_a_wake_word_is_fetched_from_its_page_and_compared_with_the_catalogue(hub: Hub, folder: Path) -> None:
    hub.files |= {f"pages/stop/{name}": content for name, content in WAKE.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in WAKE.items()}
    stop = replace(entry("wake-stop"), url=f"{hub.url}/pages/stop/resolve/1", hashes=hashes)
    model_hub.pull(stop, folder, Silent())
    assert models.verify("wake", "stop", folder) == []
    models.remove("wake", "stop", folder)
    with pytest.raises(ModelError, match=r"stop\.tflite did not arrive as"):
        model_hub.pull(replace(stop, hashes=hashes | {"stop.tflite": "0" * 64}), folder, Silent())
    assert models.present("wake", folder) == []


def test_what_comes_with_a_package_is_not_fetched(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roomtone(tmp_path, "pull", "okay_nabu") == 1
    assert "run: pip install 'roomtone[wake]'" in capsys.readouterr().err
    assert hub.asked == []


def test_a_word_that_was_nearly_recommended_is_answered_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roomtone(tmp_path, "pull", "recomended") == 2
    assert "did you mean recommended?" in capsys.readouterr().err


def test_a_certificate_that_is_not_believed_points_at_the_clock(hub: Hub) -> None:
    wanted = fetching.Wanted("whisper", "tiny.en")
    with (
        pytest.raises(ModelError, match=r"certificate is not yet valid\); see whether its clock is right"),
        fetching.said_plainly(wanted, "https://huggingface.co"),
    ):
        raise RuntimeError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid")


def test_what_was_copied_here_by_hand_is_pinned_and_not_fetched_again(hub: Hub, folder: Path) -> None:
    write(folder / "whisper" / "tiny.en", WHISPER)
    write(folder / "piper", PIPER)
    for name in (SMALL, NAME):
        model_hub.pull(entry(name), folder, Silent())
    assert hub.gets() == []
    assert [verdict.pinned for verdict in models.verify_all(folder) if not verdict.faults] == [True, True]
    assert not models.incoming_of("piper", NAME, folder).exists()
