"""Taking in all the models of a stick, and telling which sticks are plugged in."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from model_making import NAME, PIPER, SMALL, WAKE, WEIGHTS, WHISPER, ct2, json_rows, onnx, roomtone, write
from roomtone import models
from roomtone.commands import models_list
from roomtone.core.errors import ModelError, UsageError
from roomtone.model_supply import sticks, taking_in
from roomtone.model_supply.sticks import Stick, plugged, take_all
from roomtone.models import placing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """Things as they lie on people's sticks: some models, some that are none, and a photograph."""
    root = tmp_path / "stick"
    write(root / "faster-whisper-tiny.en", {**WHISPER, "README.md": b"x"})
    write(root / "voices" / "english", PIPER)
    write(root / "voices" / "halved", {"en_US-ryan-low.onnx": onnx()[:-9], "en_US-ryan-low.onnx.json": b"{}"})
    write(root, {"qwen2.5-1.5b-instruct-q4_k_m.gguf": WEIGHTS, "mine.gguf": WEIGHTS, **WAKE})
    write(root, {"holiday.jpg": b"\xff\xd8", "old.safetensors": b"x", "backup.zip": b"PK"})
    write(root / ".Trashes", {"gone.gguf": WEIGHTS})
    return root


def test_a_stick_gives_all_that_is_known_and_says_what_it_skipped(
    stick: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roomtone(tmp_path, "import", str(stick)) == 1, "one voice is broken"
    out, err = capsys.readouterr()
    whole = {verdict.typed for verdict in models.verify_all(folder) if not verdict.faults}
    assert whole == {"wake-stop", "llm-mine", "llm-qwen2.5-1.5b-instruct", SMALL, NAME}
    assert sorted(line.split()[1] for line in out.splitlines() if line.startswith("skipped")) == [
        f"{stick / 'backup.zip'}:",
        f"{stick / 'old.safetensors'}:",
    ]
    assert "en_US-ryan-low.onnx" in err
    assert "holiday" not in out + err
    assert err.count("\n") == 1
    assert models.present("piper", folder) == [NAME]


def test_a_stick_taken_in_twice_is_copied_once(stick: Path, folder: Path) -> None:
    list(take_all(stick, folder))
    write(stick, {models.LOCK: (folder / models.LOCK).read_bytes()})
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    states = {outcome.typed: outcome.state for outcome in take_all(stick, folder) if outcome.typed}
    assert states.pop("en_US-ryan-low") == "broken"
    assert set(states.values()) == {"here"}
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_another_machines_models_folder_brings_its_pins(stick: Path, folder: Path, tmp_path: Path) -> None:
    list(take_all(stick, folder))
    models.pin("piper", NAME, folder, models.Pin("rhasspy/piper-voices@1", models.pins(folder)[NAME].files))
    (folder / "llama" / "mine.gguf").write_bytes(WEIGHTS[:-1] + b"x")
    other = tmp_path / "second" / "models"
    outcomes = {outcome.typed: outcome for outcome in take_all(folder, other)}
    assert models.pins(other)[NAME] == models.pins(folder)[NAME], "it can be fetched by that commit"
    assert outcomes["llm-mine"].state == "broken"
    assert "is not what models.lock pins" in str(outcomes["llm-mine"].why)
    assert models.present("llama", other) == ["qwen2.5-1.5b-instruct"]
    assert ".incoming" not in {path.name for outcome in outcomes.values() for path in outcome.path.parents}


def test_a_model_there_is_no_room_for_hinders_no_other(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk:
        free = placing.SPARE_BYTES + 50_000

    write(tmp_path / "stick" / "a-large-one", {**WHISPER, "model.bin": ct2(weights=bytes(100_000))})
    write(tmp_path / "stick" / "voices", PIPER)
    monkeypatch.setattr(placing.shutil, "disk_usage", lambda _: Disk)
    large, small = take_all(tmp_path / "stick", folder)
    assert (large.typed, large.state, small.typed, small.state) == ("whisper-a-large-one", "broken", NAME, "taken")
    assert "make room" in str(large.why)


def test_a_card_that_cannot_be_written_is_told_once(
    stick: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(taking_in, "_copy", refuses)
    assert roomtone(tmp_path, "import", str(stick)) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Read-only file system" in err


def test_a_folder_without_any_model_says_what_it_is_instead(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = write(tmp_path / "empty", {})
    assert roomtone(tmp_path, "import", str(empty)) == 1
    assert "holds neither model.bin" in capsys.readouterr().err
    with pytest.raises(ModelError, match="ct2-transformers-converter"):
        list(take_all(write(tmp_path / "t", {"model.safetensors": b"x", "config.json": b"{}"}), folder))
    with pytest.raises(ModelError, match="there is no such file or folder"):
        list(take_all(tmp_path / "nowhere", folder))


def test_a_stick_that_cannot_be_read_to_the_end_is_told_as_that(
    stick: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(file: Path, target: Path) -> None:
        raise taking_in._unreadable(file, OSError(5, os.strerror(5)))

    monkeypatch.setattr(taking_in, "_copy", fails)
    with pytest.raises(ModelError, match=r"mine\.gguf cannot be read \(Input/output error\); copy it anew"):
        taking_in.take_in(stick / "mine.gguf", folder)
    assert models.present("llama", folder) == []


def test_a_wake_word_keeps_its_name(stick: Path, folder: Path) -> None:
    assert taking_in.take_in(stick / "stop.tflite", folder)[:2] == ("wake", "stop")
    assert taking_in.take_in(stick / "stop.json", folder, "wake-stop")[:2] == ("wake", "stop")
    with pytest.raises(UsageError, match="keeps its name"):
        taking_in.take_in(stick / "stop.json", folder, "halt")


# ---------------------------------------------------------------------------------------------- plugged in


def kernel(root: Path, mounts: str, **disks: str) -> Path:
    """Lay out what the kernel tells of disks: name and place in the tree of devices."""
    (root / "sys/class/block").mkdir(parents=True)
    for name, place in disks.items():
        (root / "sys/devices" / place / name).mkdir(parents=True)
        (root / "sys/class/block" / name).symlink_to(root / "sys/devices" / place / name)
    write(root / "proc" / "self", {"mounts": mounts.encode()})
    return root


def test_sticks_are_the_partitions_of_usb_disks(tmp_path: Path) -> None:
    root = kernel(
        tmp_path,
        "/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/sda1 /media/MY\\040STICK vfat rw 0 0\n",
        mmcblk0="platform/mmc_host/mmc0",
        mmcblk0p2="platform/mmc_host/mmc0",
        sda="pci0/usb1/1-1/host0",
        sda1="pci0/usb1/1-1/host0/sda",
        sdb="pci0/usb2/2-1/host1",
    )
    assert plugged(root) == [Stick("/dev/sda1", Path("/media/MY STICK")), Stick("/dev/sdb", None)]


def test_a_machine_that_tells_of_no_disks_has_no_sticks(tmp_path: Path) -> None:
    assert plugged(tmp_path) == []


def test_import_without_a_path_lists_the_sticks(
    stick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_list.sticks, "plugged", lambda: [Stick("/dev/sda1", stick), Stick("/dev/sdb1", None)])
    assert roomtone(tmp_path, "import") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"/dev/sda1 holds 6 models; to take them in: roomtone models import {stick}"
    assert second.startswith("/dev/sdb1 is not mounted; run: sudo mkdir -p /media/usb && sudo mount -o ro /dev/sdb1")
    assert roomtone(tmp_path, "import", "--json") == 0
    assert [row["device"] for row in json_rows(capsys)] == ["/dev/sda1", "/dev/sdb1"]
    monkeypatch.setattr(models_list.sticks, "plugged", list)
    assert roomtone(tmp_path, "import") == 1
    assert "No USB stick is plugged in." in capsys.readouterr().out


def test_no_folder_is_looked_into_without_end(tmp_path: Path) -> None:
    deep = write(tmp_path.joinpath(*"abcdefgh"), {"deep.gguf": WEIGHTS})
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert sticks.candidates(tmp_path)[0] == []
    assert sticks.candidates(deep)[0] == [deep / "deep.gguf"]
