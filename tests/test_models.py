"""Getting models, and telling whole ones from others. The hub is a real HTTP server on loopback."""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_hub_server import COMMIT, Hub, serving
from roomtone import cli, config, models, outbound
from roomtone.core.errors import ModelError, StateBusy, UsageError
from roomtone.core.model_files import (
    GGML_BLOCKS,
    Flawed,
    Gguf,
    check_ct2,
    check_gguf,
    check_json,
    check_onnx,
    check_voice,
    read_gguf,
)
from roomtone.core.persona import Egress
from roomtone.model_supply import catalogue, fetching
from roomtone.model_supply import hub as model_hub
from roomtone.model_supply import taking_in as model_import
from roomtone.models import placing
from roomtone.store import FILE_NAME

VOICE = {
    "audio": {"sample_rate": 16000},
    "espeak": {"voice": "en-us"},
    "num_symbols": 3,
    "num_speakers": 1,
    "phoneme_id_map": {"a": [1]},
}
NAME = "en_US-amy-low"
SMALL = "whisper-tiny.en"


def text(value: str) -> bytes:
    content = value.encode() + b"\0"
    return struct.pack("<H", len(content)) + content


def ct2(spec: str = "WhisperSpec", weights: bytes = bytes(range(200)) * 50) -> bytes:
    """A model of one variable, as CTranslate2 writes it."""
    variable = text("encoder/w") + struct.pack("<BIBI", 1, len(weights), 1, len(weights)) + weights
    alias = text("decoder/w") + text("encoder/w")
    head = struct.pack("<I", 6) + text(spec)
    return head + struct.pack("<II", 3, 1) + variable + struct.pack("<I", 1) + alias


def onnx(graph: bytes = b"g" * 300) -> bytes:
    """A model's outer frame: its version, who made it, its graph."""
    return b"\x08\x08" + b"\x12\x04here" + b"\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph


def gguf(*values: tuple[str, int, bytes], tensor: int = 0, data: bytes = bytes(64)) -> bytes:
    """A model of one tensor of 32 numbers, its type given, with some values in its head."""

    def word(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    head += b"".join(word(key) + struct.pack("<I", kind) + value for key, kind, value in values)
    head += word("token_embd.weight") + struct.pack("<IQIQ", 1, 32, tensor, 0)
    return head + bytes(-len(head) % 32) + data


def gguf_words(*words: str) -> bytes:
    """A list of words, as a value in the head of a GGUF file."""
    return struct.pack("<IQ", 8, len(words)) + b"".join(struct.pack("<Q", len(w)) + w.encode() for w in words)


def gguf_word(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


ARCHITECTURE = ("general.architecture", 8, gguf_word("llama"))
WEIGHTS = gguf(
    ARCHITECTURE,
    ("llama.context_length", 4, struct.pack("<I", 4096)),
    ("tokenizer.ggml.tokens", 9, gguf_words("a", "b")),
    ("tokenizer.ggml.scores", 9, struct.pack("<IQff", 6, 2, 0, 0)),
    data=bytes(128),
)
WHISPER = {"config.json": b"{}", "model.bin": ct2(), "tokenizer.json": b'{"model": 1}', "vocabulary.txt": b"a\nb\n"}
PIPER = {f"{NAME}.onnx": onnx(), f"{NAME}.onnx.json": json.dumps(VOICE).encode()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class Silent:
    """A progress bar that nobody sees."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.moved = 0

    def begin(self, file: str, done: int, total: int) -> None:
        self.begun.append((file, done, total))

    def move(self, count: int) -> None:
        self.moved += count


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has a small Whisper and a voice, in whose library waits between tries take no time."""
    import huggingface_hub.constants

    with serving() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(fetching, "AGAIN_S", 0)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        made.files |= {f"Systran/faster-whisper-tiny.en/{name}": content for name, content in WHISPER.items()}
        made.files |= {"Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf": WEIGHTS}
        made.files |= {
            "sentence-transformers/all-MiniLM-L6-v2/onnx/model.onnx": onnx(),
            "sentence-transformers/all-MiniLM-L6-v2/tokenizer.json": b"{}",
        }
        made.files |= {f"rhasspy/piper-voices/en/en_US/amy/low/{name}": content for name, content in PIPER.items()}
        yield made
        huggingface_hub.close_session()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


@pytest.fixture(autouse=True)
def _no_file_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "etc" / "config.yaml")


def entry(name: str) -> catalogue.Entry:
    return catalogue.find(name, catalogue.catalogue())


def roomtone(tmp_path: Path, *words: str) -> int:
    return cli.main(["models", *words, "--state-dir", str(tmp_path / "state")])


def json_rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# ----------------------------------------------------------------------------------------- catalogue


def test_the_catalogue_says_of_each_model_where_it_is_and_what_it_consists_of() -> None:
    known = catalogue.catalogue()
    assert {entry.kind for entry in known.values()} == set(models.KINDS)
    for name, one in known.items():
        assert models.read_name(name) == (one.kind, one.name)
        named = {path.rpartition("/")[2] for path in one.files}
        form = models.FORMS[one.kind]
        needed = {path.name for path in form.parts(form.path(one.name, Path()))}
        if one.kind == "wake" and not one.files:
            assert "comes with" in one.use
        elif one.kind == "llama":  # it is kept under another name
            assert [Path(name).suffix for name in named] == [".gguf"]
        else:
            assert needed <= named <= needed | set(form.extras)
        assert one.repo.count("/") == 1 or one.url.startswith("https://") or not one.files
        assert one.language
        assert one.licence
    amy = known["en_US-amy-low"]
    assert "en/en_US/amy/low/en_US-amy-low.onnx" in amy.files
    assert amy.revision == "v1.0.0"


@pytest.mark.parametrize(
    ("typed", "meant"), [("whisper-base.en", "whisper-base.en"), ("base.en", "whisper-base.en"), (NAME, NAME)]
)
def test_a_model_is_found_by_the_names_people_type(typed: str, meant: str) -> None:
    assert entry(typed).typed == meant


@pytest.mark.parametrize(("typed", "meant"), [("whisper-bas.en", "whisper-base.en"), ("en_us-amy-low", NAME)])
def test_an_unknown_name_is_answered_with_the_one_that_was_probably_meant(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        entry(typed)


def test_a_name_like_no_other_is_answered_with_the_command_that_lists_them() -> None:
    with pytest.raises(UsageError, match="roomtone models list"):
        entry("xyzzy")


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
    import hashlib

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
    with pytest.raises(ModelError, match=r"whisper-tiny\.en needs 0\.0 MB and .* has 50 MB free"):
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
    assert {name for name, _ in hub.gets()} == set(PIPER)


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


# -------------------------------------------------------------------------------------------- import


def test_a_folder_is_taken_in_under_its_own_name(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path / "faster-whisper-base.en", {**WHISPER, "pickle.pkl": b"\x80", "README.md": b"x"})
    kind, name, record = model_import.take_in(source, folder)
    assert (kind, name) == ("whisper", "base.en")
    assert set(record.files) == set(WHISPER), "no file is taken that no model has"
    assert models.verify("whisper", "base.en", folder) == []


def test_a_voice_is_taken_in_with_its_json_and_may_be_renamed(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path / "downloads", PIPER)
    assert model_import.take_in(source / f"{NAME}.onnx", folder)[:2] == ("piper", NAME)
    assert model_import.take_in(source, folder, "en_US-aunt-low")[:2] == ("piper", "en_US-aunt-low")
    assert models.installed("piper", folder) == [NAME, "en_US-aunt-low"]


def test_a_model_in_the_hubs_cache_is_taken_in_through_its_links(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "models--Systran--faster-whisper-small"
    write(home / "blobs", WHISPER)
    snapshot = write(home / "snapshots" / COMMIT, {})
    for name in WHISPER:
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert model_import.take_in(snapshot, folder)[:2] == ("whisper", "small")
    assert not (folder / "whisper" / "small" / "model.bin").is_symlink()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path / "m", WHISPER)
    secret = write(tmp_path / "elsewhere", {"secret.json": b'{"key": 1}'}) / "secret.json"
    (source / "tokenizer.json").unlink()
    (source / "tokenizer.json").symlink_to(secret)
    with pytest.raises(ModelError, match="leads out of its folder"):
        model_import.take_in(source, folder)
    assert not folder.exists()


def without(name: str) -> dict[str, bytes]:
    return {file: content for file, content in WHISPER.items() if file != name}


WRONG = {
    "cut short": ({**WHISPER, "model.bin": WHISPER["model.bin"][:-7]}, "model.bin is cut short"),
    "a pickle": ({**WHISPER, "model.bin": b"\x80\x02}q"}, "is a PyTorch file, which is never loaded"),
    "a zip of pickles": ({**WHISPER, "model.bin": b"PK\x03\x04...."}, "is a PyTorch file, which is never loaded"),
    "another model": ({**WHISPER, "model.bin": ct2("TransformerSpec")}, "of another kind"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer.json is missing"),
    "half a tokenizer": ({**WHISPER, "tokenizer.json": b'{"model"'}, "is not JSON"),
    "empty": ({**WHISPER, "model.bin": b""}, "is empty"),
    "nothing": ({"README.md": b"hello"}, "holds neither"),
    "transformers": ({"model.safetensors": b"x", "config.json": b"{}"}, "ct2-transformers-converter"),
    "no JSON": ({f"{NAME}.onnx": onnx()}, f"{NAME}.onnx.json is missing"),
    "half a voice": ({**PIPER, f"{NAME}.onnx": onnx()[:-20]}, "is cut short"),
    "no voice": ({**PIPER, f"{NAME}.onnx": b"not protobuf at all"}, "is not an ONNX model"),
    "another JSON": ({**PIPER, f"{NAME}.onnx.json": b"[1]"}, "is not a Piper voice's configuration"),
    "two voices": ({**PIPER, "b.onnx": onnx()}, "holds 2 voices"),
}


@pytest.mark.parametrize("case", WRONG)
def test_anything_else_is_refused_and_what_was_there_stays(tmp_path: Path, folder: Path, case: str) -> None:
    files, said = WRONG[case]
    write(folder / "whisper" / "mine", WHISPER)
    write(folder / "piper", PIPER)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ModelError) as caught:
        model_import.take_in(write(tmp_path / "new", files), folder, "mine" if "model.bin" in files else None)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "-x"])
def test_a_name_cannot_lead_elsewhere(tmp_path: Path, folder: Path, name: str) -> None:
    source = write(tmp_path / "m", WHISPER)
    if name:
        with pytest.raises(UsageError, match="cannot be a model's name"):
            model_import.take_in(source, folder, name)
        assert not folder.exists()
    for wanted in (name, f"whisper-{name}"):
        with pytest.raises(UsageError, match="cannot be a model's name"):
            models.read_name(wanted)


def test_a_whole_model_replaces_a_broken_one(tmp_path: Path, folder: Path) -> None:
    write(folder / "whisper" / "mine", {"model.bin": b"half"})
    source = write(tmp_path / "m", WHISPER)
    model_import.take_in(source, folder, "mine")
    assert models.verify("whisper", "mine", folder) == []
    assert model_import.take_in(folder / "whisper" / "mine", folder)[:2] == ("whisper", "mine"), "even by itself"
    assert models.verify("whisper", "mine", folder) == []


# -------------------------------------------------------------------------------------------- verify


@pytest.fixture
def here(tmp_path: Path, folder: Path) -> Path:
    model_import.take_in(write(tmp_path / "tiny.en", WHISPER), folder)
    model_import.take_in(write(tmp_path / "voices", PIPER), folder)
    return folder


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "absent":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[:-5])
    elif how == "longer":
        file.write_bytes(content + b"\x3a\x01x")
    else:
        file.write_bytes(content.replace(b"ggg", b"gfg").replace(b"\x01\x02\x03", b"\x01\x02\x04"))


@pytest.mark.parametrize(
    ("how", "said"),
    [("absent", "is missing"), ("cut", "is cut short"), ("longer", "not what was"), ("bit", "altered")],
)
@pytest.mark.parametrize("file", ["whisper/tiny.en/model.bin", f"piper/{NAME}.onnx"])
def test_verify_tells_what_is_wrong_and_what_mends_it(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, how: str, said: str
) -> None:
    assert roomtone(tmp_path, "verify") == 0
    assert capsys.readouterr().out == f"{SMALL}: whole\n{NAME}: whole\n"
    spoil(here / file, how)
    name = SMALL if "whisper" in file else NAME
    assert roomtone(tmp_path, "verify") == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.endswith(f"run: roomtone models pull {name}\n")
    assert err.count("\n") == 1
    assert roomtone(tmp_path, "verify", "--json") == 1
    rows = json_rows(capsys)
    assert [row["whole"] for row in rows] == [row["name"] != name for row in rows]


def test_a_model_without_a_record_is_judged_by_its_format(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "whisper" / "mine", WHISPER)
    assert roomtone(tmp_path, "verify", "whisper-mine") == 0
    assert "looks right" in capsys.readouterr().out
    write(folder / "whisper" / "mine", {"model.bin": WHISPER["model.bin"][:-7]})
    assert roomtone(tmp_path, "verify", "whisper-mine") == 1
    assert "import PATH --name mine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "lock", ["", "[]", "{}", '{"models": []}', '{"models": {"whisper-tiny.en": {"files": 1}}}', "\x00", "[" * 9000]
)
def test_a_broken_lock_pins_nothing_and_the_next_pin_keeps_it_aside(here: Path, lock: str, tmp_path: Path) -> None:
    (here / models.LOCK).write_text(lock)
    assert models.pins(here) == {}
    assert models.verify("whisper", "tiny.en", here) == []
    model_import.take_in(write(tmp_path / "small", WHISPER), here)
    assert list(models.pins(here)) == ["whisper-small"]
    aside = here / f"{models.LOCK}.broken"
    assert aside.exists() == (lock[:10] != '{"models":' or "[]" in lock)
    assert not aside.exists() or aside.read_text() == lock


def test_a_name_with_a_path_in_it_is_never_looked_at(here: Path) -> None:
    files = {"../../secret": models.Stamp(1, "x")}
    models.pin("whisper", "tiny.en", here, models.Pin("elsewhere", files))
    assert models.verify("whisper", "tiny.en", here) == []


def test_verifying_a_model_that_is_not_here_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roomtone(tmp_path, "verify", SMALL) == 1
    assert f"run: roomtone models pull {SMALL}" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ list, remove


def test_list_tells_of_each_model_whether_it_is_here(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "whisper" / "mine", {"model.bin": b""})
    write(models.incoming_of("whisper", "base.en", here), {"model.bin.abc.part": bytes(100)})
    assert roomtone(tmp_path, "list", "--json") == 0
    rows = {row["name"]: row for row in json_rows(capsys)}
    assert rows[SMALL]["state"] == "installed"
    assert rows[SMALL]["bytes"] == sum(map(len, WHISPER.values()))
    assert rows["whisper-base.en"]["state"] == "begun"
    assert rows["whisper-mine"]["state"] == "incomplete"
    assert rows["whisper-tiny"]["state"] == "absent"
    assert rows["whisper-tiny"]["megabytes"] == 78
    assert {row["kind"] for row in rows.values()} == set(models.KINDS)
    assert roomtone(tmp_path, "list") == 0
    assert "whisper-tiny.en" in capsys.readouterr().out


def test_remove_leaves_nothing_of_a_model(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(models.incoming_of("whisper", "tiny.en", here), {"model.bin.abc.part": bytes(100)})
    assert roomtone(tmp_path, "remove", SMALL, NAME) == 0
    assert [path for path in here.rglob("*") if path.is_file()] == [here / models.LOCK]
    assert models.pins(here) == {}
    assert roomtone(tmp_path, "remove", SMALL) == 1
    assert "there is no model" in capsys.readouterr().err


def test_a_recogniser_that_is_here_needs_no_prefix(here: Path, tmp_path: Path) -> None:
    assert roomtone(tmp_path, "verify", "tiny.en") == 0
    assert roomtone(tmp_path, "remove", "tiny.en") == 0
    assert models.present("whisper", here) == []


def test_a_swap_that_fails_leaves_the_old_model(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "m", {**WHISPER, "model.bin": ct2(weights=b"other")})
    rename = Path.rename

    def fails_for_the_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(KeyboardInterrupt):
        model_import.take_in(source, here, "tiny.en")
    assert (here / "whisper" / "tiny.en" / "model.bin").read_bytes() == WHISPER["model.bin"]
    assert models.verify("whisper", "tiny.en", here) == []


def test_a_swap_is_not_hindered_by_what_an_earlier_one_left(here: Path) -> None:
    incoming = models.incoming_of("whisper", "tiny.en", here)
    write(incoming, {**WHISPER, "model.bin": ct2(weights=b"other")})
    write(incoming / "old", WHISPER)  # the power went before it was thrown away
    models.put_in_place(incoming, "whisper", "tiny.en", here, "again")
    assert (here / "whisper" / "tiny.en" / "model.bin").read_bytes() == ct2(weights=b"other")
    assert not incoming.exists()


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path, folder: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", WHISPER)
    (folder / "whisper").mkdir(parents=True)
    (folder / "whisper" / "linked").symlink_to(elsewhere)
    assert models.installed("whisper", folder) == ["linked"]
    models.remove("whisper", "linked", folder)
    assert set(os.listdir(elsewhere)) == set(WHISPER)
    assert models.present("whisper", folder) == []


def test_looking_at_models_imports_no_heavy_library(here: Path, tmp_path: Path) -> None:
    import subprocess

    heavy = ("huggingface_hub", "onnxruntime", "ctranslate2", "faster_whisper", "piper", "torch")
    code = f"import sys, roomtone.cli as c; c.main(sys.argv[1:]); print([n for n in {heavy} if n in sys.modules])"
    words = [sys.executable, "-c", code, "models", "verify", "--state-dir", str(tmp_path / "state")]
    assert subprocess.run(words, capture_output=True, text=True).stdout.splitlines()[-1] == "[]"


# ------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("fixture", ["whisper/fixture/model.bin", "piper/en_US-fixture-x_low.onnx"])
def test_real_models_of_both_formats_are_known(fixture: str) -> None:
    file = Path(__file__).parent / "models" / fixture
    if not file.exists():
        pytest.skip("the fixture has not been made")
    models.check_format(file)


@given(st.integers(0, len(ct2()) - 1))
def test_a_recogniser_cut_anywhere_is_told(length: int) -> None:
    with pytest.raises(Flawed):
        check_ct2(ct2()[:length])


@given(st.integers(0, len(onnx()) - 1))
def test_a_voice_cut_anywhere_is_told(length: int) -> None:
    with pytest.raises(Flawed):
        check_onnx(onnx()[:length])


def told(check: Callable[[Any], object], content: Any) -> str:
    """Return what a check finds wrong, in words."""
    try:
        check(content)
    except Flawed as error:
        return str(error)
    return ""


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_another_error(content: bytes) -> None:
    for check in (check_ct2, check_onnx, check_json):
        told(check, content)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from(list(VOICE)), inner)
    )
)
def test_any_configuration_of_a_voice_is_judged_without_another_error(config: Any) -> None:
    told(check_voice, config)


def test_a_configuration_with_all_it_needs_is_a_voices() -> None:
    check_voice(VOICE)
    for key in VOICE:
        with pytest.raises(Flawed):
            check_voice({name: value for name, value in VOICE.items() if name != key})


# ------------------------------------------------------------------------------- language models, embedders


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


def test_a_model_is_taken_in_from_a_gguf_file_and_an_embedder_from_its_folder(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "elsewhere", {"Some-Model-Q8_0.gguf": WEIGHTS}) / "Some-Model-Q8_0.gguf"
    assert model_import.take_in(file, folder, "mine")[:2] == ("llama", "mine")
    assert models.verify("llama", "mine", folder) == []
    embedder = write(tmp_path / "small", {"model.onnx": onnx(), "tokenizer.json": b"{}", "other.bin": b"x"})
    assert model_import.take_in(embedder, folder)[:2] == ("embed", "small")
    assert sorted(path.name for path in (folder / "embed" / "small").iterdir()) == ["model.onnx", "tokenizer.json"]
    with pytest.raises(ModelError, match=r"name the file: roomtone models import .*Some-Model"):
        model_import.recognise(file.parent)
    file.write_bytes(WEIGHTS[:-1])
    with pytest.raises(ModelError, match="cut short; nothing was changed"):
        model_import.take_in(file, folder, "mine")
    assert models.verify("llama", "mine", folder) == []


def test_the_head_of_a_gguf_file_says_what_it_is() -> None:
    assert read_gguf(WEIGHTS) == Gguf("llama", adapter=False, context=4096)
    adapter = gguf(("general.type", 8, gguf_word("adapter")), ARCHITECTURE, data=bytes(128))
    assert read_gguf(adapter) == Gguf("llama", adapter=True, context=0)
    assert read_gguf(gguf(data=bytes(128))) == Gguf("", adapter=False, context=0)


@given(end=st.integers(0, len(WEIGHTS) - 1))
def test_a_gguf_file_that_is_cut_anywhere_is_told(end: int) -> None:
    check_gguf(WEIGHTS)
    with pytest.raises(Flawed):
        check_gguf(WEIGHTS[:end])


@given(content=st.binary(max_size=200), at=st.integers(0, len(WEIGHTS)))
def test_whatever_a_gguf_file_holds_it_is_taken_or_told(content: bytes, at: int) -> None:
    for damaged in (content, b"GGUF\x03\0\0\0" + content, WEIGHTS[:at] + content + WEIGHTS[at + len(content) :]):
        for look in (check_gguf, read_gguf):
            try:
                look(damaged)
            except Flawed:
                continue


@pytest.mark.parametrize("wrong", [b"", b"GGML" + WEIGHTS[4:], b"GGUF\x01" + WEIGHTS[5:], b"PK" + WEIGHTS])
def test_what_is_no_gguf_file_is_told(wrong: bytes) -> None:
    with pytest.raises(Flawed):
        check_gguf(wrong)


def test_the_sizes_of_tensors_are_those_of_ggml() -> None:
    from gguf.constants import GGML_QUANT_SIZES

    assert {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()} == GGML_BLOCKS
