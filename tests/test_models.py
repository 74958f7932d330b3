"""The models folder: what is known, taken in, whole, listed and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_hub_server import COMMIT
from model_making import NAME, PIPER, SMALL, WEIGHTS, WHISPER, ct2, entry, json_rows, onnx, roomtone, spoil, write
from roomtone import models
from roomtone.core.errors import ModelError, UsageError
from roomtone.model_supply import catalogue, taking_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


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


# -------------------------------------------------------------------------------------------- import


def test_a_folder_is_taken_in_under_its_own_name(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path / "faster-whisper-base.en", {**WHISPER, "pickle.pkl": b"\x80", "README.md": b"x"})
    kind, name, record = taking_in.take_in(source, folder)
    assert (kind, name) == ("whisper", "base.en")
    assert set(record.files) == set(WHISPER), "no file is taken that no model has"
    assert models.verify("whisper", "base.en", folder) == []


def test_a_voice_is_taken_in_with_its_json_and_may_be_renamed(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path / "downloads", PIPER)
    assert taking_in.take_in(source / f"{NAME}.onnx", folder)[:2] == ("piper", NAME)
    assert taking_in.take_in(source, folder, "en_US-aunt-low")[:2] == ("piper", "en_US-aunt-low")
    assert models.installed("piper", folder) == [NAME, "en_US-aunt-low"]


def test_a_model_in_the_hubs_cache_is_taken_in_through_its_links(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "models--Systran--faster-whisper-small"
    write(home / "blobs", WHISPER)
    snapshot = write(home / "snapshots" / COMMIT, {})
    for name in WHISPER:
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    assert taking_in.take_in(snapshot, folder)[:2] == ("whisper", "small")
    assert not (folder / "whisper" / "small" / "model.bin").is_symlink()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    source = write(tmp_path / "m", WHISPER)
    secret = write(tmp_path / "elsewhere", {"secret.json": b'{"key": 1}'}) / "secret.json"
    (source / "tokenizer.json").unlink()
    (source / "tokenizer.json").symlink_to(secret)
    with pytest.raises(ModelError, match="leads out of its folder"):
        taking_in.take_in(source, folder)
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
        taking_in.take_in(write(tmp_path / "new", files), folder, "mine" if "model.bin" in files else None)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "-x"])
def test_a_name_cannot_lead_elsewhere(tmp_path: Path, folder: Path, name: str) -> None:
    source = write(tmp_path / "m", WHISPER)
    if name:
        with pytest.raises(UsageError, match="cannot be a model's name"):
            taking_in.take_in(source, folder, name)
        assert not folder.exists()
    for wanted in (name, f"whisper-{name}"):
        with pytest.raises(UsageError, match="cannot be a model's name"):
            models.read_name(wanted)


def test_a_whole_model_replaces_a_broken_one(tmp_path: Path, folder: Path) -> None:
    write(folder / "whisper" / "mine", {"model.bin": b"half"})
    source = write(tmp_path / "m", WHISPER)
    taking_in.take_in(source, folder, "mine")
    assert models.verify("whisper", "mine", folder) == []
    assert taking_in.take_in(folder / "whisper" / "mine", folder)[:2] == ("whisper", "mine"), "even by itself"
    assert models.verify("whisper", "mine", folder) == []


# -------------------------------------------------------------------------------------------- verify


@pytest.fixture
def here(tmp_path: Path, folder: Path) -> Path:
    taking_in.take_in(write(tmp_path / "tiny.en", WHISPER), folder)
    taking_in.take_in(write(tmp_path / "voices", PIPER), folder)
    return folder


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
    taking_in.take_in(write(tmp_path / "small", WHISPER), here)
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
        taking_in.take_in(source, here, "tiny.en")
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
    heavy = ("huggingface_hub", "onnxruntime", "ctranslate2", "faster_whisper", "piper", "torch")
    code = f"import sys, roomtone.cli as c; c.main(sys.argv[1:]); print([n for n in {heavy} if n in sys.modules])"
    words = [sys.executable, "-c", code, "models", "verify", "--state-dir", str(tmp_path / "state")]
    assert subprocess.run(words, capture_output=True, text=True).stdout.splitlines()[-1] == "[]"


def test_a_model_is_taken_in_from_a_gguf_file_and_an_embedder_from_its_folder(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "elsewhere", {"Some-Model-Q8_0.gguf": WEIGHTS}) / "Some-Model-Q8_0.gguf"
    assert taking_in.take_in(file, folder, "mine")[:2] == ("llama", "mine")
    assert models.verify("llama", "mine", folder) == []
    embedder = write(tmp_path / "small", {"model.onnx": onnx(), "tokenizer.json": b"{}", "other.bin": b"x"})
    assert taking_in.take_in(embedder, folder)[:2] == ("embed", "small")
    assert sorted(path.name for path in (folder / "embed" / "small").iterdir()) == ["model.onnx", "tokenizer.json"]
    with pytest.raises(ModelError, match=r"name the file: roomtone models import .*Some-Model"):
        taking_in.recognise(file.parent)
    file.write_bytes(WEIGHTS[:-1])
    with pytest.raises(ModelError, match="cut short; nothing was changed"):
        taking_in.take_in(file, folder, "mine")
    assert models.verify("llama", "mine", folder) == []
