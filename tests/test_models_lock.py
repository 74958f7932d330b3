"""The lock of the models folder: what it pins, what is told by it, and who may read and write there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_making import NAME, PIPER, SMALL, VOICE, WHISPER, ct2, onnx, roomtone, spoil, write
from roomtone import models
from roomtone.core.errors import ModelError
from roomtone.model_supply import taking_in
from roomtone.models import placing

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


@pytest.fixture
def here(tmp_path: Path, folder: Path) -> Path:
    taking_in.take_in(write(tmp_path / "tiny.en", WHISPER), folder)
    taking_in.take_in(write(tmp_path / "voices", PIPER), folder)
    return folder


def test_the_lock_pins_source_sizes_and_hashes_and_is_the_same_bytes_wherever_the_model_is(
    here: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "models"
    for name, pin in models.pins(here).items():
        kind, own = models.read_name(name)
        incoming = write(models.incoming_of(kind, own, other), WHISPER if kind == "whisper" else PIPER)
        models.put_in_place(incoming, kind, own, other, pin.source, pin)
    assert (other / models.LOCK).read_bytes() == (here / models.LOCK).read_bytes()
    told = json.loads((here / models.LOCK).read_text())["models"][SMALL]
    assert told["files"]["model.bin"]["size"] == len(WHISPER["model.bin"])
    assert len(told["files"]["model.bin"]["sha256"]) == 64


def test_what_is_not_what_the_lock_pins_is_not_put_in_place(here: Path) -> None:
    incoming = write(models.incoming_of("whisper", "tiny.en", here), {**WHISPER, "model.bin": ct2(weights=b"other")})
    with pytest.raises(ModelError, match=r"is not what models\.lock pins, and was thrown away"):
        models.put_in_place(incoming, "whisper", "tiny.en", here, "x", models.pinned("whisper", "tiny.en", here))
    assert models.verify("whisper", "tiny.en", here) == []
    assert not incoming.exists()


def test_a_power_cut_between_the_pin_and_the_files_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    larger = json.dumps({**VOICE, "more": 1}).encode()
    incoming = write(models.incoming_of("piper", NAME, here), {f"{NAME}.onnx": onnx(), f"{NAME}.onnx.json": larger})
    before = (here / models.LOCK).read_bytes()

    def cut(*_: object, **__: object) -> None:
        pinned = (here / models.LOCK).read_bytes()
        monkeypatch.setattr(placing, "pin", lambda *_: (here / models.LOCK).write_bytes(pinned))
        raise KeyboardInterrupt

    monkeypatch.setattr(placing, "_move", cut)
    with pytest.raises(KeyboardInterrupt):
        models.put_in_place(incoming, "piper", NAME, here, "again")
    assert (here / models.LOCK).read_bytes() != before
    assert "is cut short" in str(models.flaw("piper", NAME, here))


def test_two_processes_that_pin_at_once_lose_no_pin(here: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from roomtone import models\n"
        "for n in range(20): models.pin('llama', f'{sys.argv[2]}{n}', Path(sys.argv[1]), models.Pin('x', {}))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(here), name]) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert len(models.pins(here)) == 2 + 40


def test_bytes_that_rot_are_found_by_reading_all_and_the_model_is_not_opened_until_it_is_mended(here: Path) -> None:
    file = here / "whisper" / "tiny.en" / "model.bin"
    assert [verdict.faults for verdict in models.verify_all(here)] == [[], []]
    spoil(file, "bit")
    assert models.flaw("whisper", "tiny.en", here) is None, "no look at sizes can tell"
    faults = {verdict.typed: verdict.faults for verdict in models.verify_all(here)}
    assert [str(fault) for fault in faults[SMALL]] == [f"{file} has been altered since it was put there"]
    assert faults[NAME] == []
    assert "has been altered" in str(models.flaw("whisper", "tiny.en", here))
    assert models.flaw_at(file.parent) == models.flaw("whisper", "tiny.en", here)
    file.write_bytes(WHISPER["model.bin"])
    models.verify_all(here)
    assert models.flaw("whisper", "tiny.en", here) is None


def test_a_pinned_model_that_is_gone_is_told(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(here / "whisper")
    assert roomtone(tmp_path, "verify") == 1
    assert "model.bin is missing" in capsys.readouterr().err
    assert roomtone(tmp_path, "remove", SMALL) == 0
    assert roomtone(tmp_path, "verify") == 0


def test_a_model_taken_in_from_a_path_is_mended_from_one(here: Path) -> None:
    spoil(here / "whisper" / "tiny.en" / "model.bin", "cut")
    assert str(models.flaw("whisper", "tiny.en", here)).endswith("roomtone models import PATH --name tiny.en")


@pytest.mark.parametrize(
    ("error", "mends"),
    [
        (errno.EROFS, "remount,rw"),
        (errno.EACCES, "with sudo"),
        (errno.ENOSPC, "roomtone models remove"),
        (5, "doctor"),
    ],
)
def test_a_folder_that_cannot_be_written_says_what_mends_it(error: int, mends: str) -> None:
    said = models.cannot_write(OSError(error, os.strerror(error)), Path("/card/models"), SMALL).message
    assert said.startswith(f"{SMALL} cannot be written to /card/models ({os.strerror(error)}); ")
    assert mends in said


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A folder of another user's, where every user may look."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder to another user")
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        state = Path(made) / "state"
        state.mkdir(0o700)
        os.chown(state, NOBODY, NOBODY)
        yield state


def run_apart(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which may become another user."""
    head = "import os, sys; from pathlib import Path; from roomtone import cli, models\n"
    head += "import roomtone.commands.models\n"  # while it still may
    return subprocess.run([sys.executable, "-c", head + code, *words], capture_output=True, text=True)


def test_a_folder_that_may_not_be_read_is_one_line_and_no_model_in_it_is_used(of_nobody: Path) -> None:
    write(of_nobody / "models" / "whisper" / "mine", WHISPER)
    ran = run_apart(
        "os.setresuid(65533, 65533, 65533)\n"
        "print(models.installed('whisper', Path(sys.argv[1]) / 'models'))\n"
        "sys.exit(cli.main(['models', 'verify', '--state-dir', sys.argv[1]]))",
        str(of_nobody),
    )
    assert ran.stdout == "[]\n"
    assert "may not be read by this user" in ran.stderr
    assert ran.returncode == 1


@pytest.mark.parametrize("owner", [NOBODY, 54321])  # the other has no name here: a disk of another machine's
def test_what_root_puts_into_the_folder_of_the_service_is_the_services(of_nobody: Path, owner: int) -> None:
    os.chown(of_nobody, owner, owner)
    source = write(of_nobody.parent / "tiny.en", WHISPER)
    importing = "sys.exit(cli.main(['models', 'import', sys.argv[1], '--state-dir', sys.argv[2]]))"
    ran = run_apart(importing, str(source), str(of_nobody))
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert {path.stat().st_uid for path in of_nobody.rglob("*")} == {owner}
    source.chmod(0o700)
    ran = run_apart(importing, str(source), str(of_nobody))
    assert ran.returncode == 1
    assert f"run: sudo chmod -R a+rX {source}" in ran.stderr
