"""A backup holds what a household has; restoring it changes all or nothing, here or on another machine."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from roomtone import cli, state_swap
from roomtone.config import Settings
from roomtone.control import state_lock
from roomtone.core.errors import BackupError
from roomtone.hub.database import STEPS as HUB_STEPS
from roomtone.migrations import STEPS, Step, migrate
from roomtone.settings import Device
from roomtone.store import FILE_NAME, open_store
from roomtone.upkeep import backup, restore
from test_migrations import ODD, old_store

CONFIG = "# the kitchen's\ndevice: {id: kitchen-1, name: Kitchen, room: kitchen}  # by the window\nlanguage: en\n"


def settings_of(state: Path, id_: str = "kitchen-1", **more: Any) -> Settings:
    return Settings(state_dir=state, device=Device(id=id_, name="Kitchen", room="kitchen"), **more)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with something of everything."""
    folder = tmp_path / "state"
    old_store(folder / FILE_NAME, len(STEPS))
    (folder / "hub" / "authority").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "hub" / "hub.db", isolation_level=None)) as connection:
        migrate(connection, HUB_STEPS)
        connection.execute("INSERT INTO devices (id, room) VALUES ('bath', 'bath')")
        connection.execute("INSERT INTO handoffs (id, session, phase) VALUES ('h', 's1', 'offered')")
    for name, text in {
        "hub/authority/ca.key": "the house's own key",
        "personas/gran/config.yaml": "name: Gran",
        "skills/bins/en.yaml": "say: {}",
        "routines/morning.yaml": "steps: []",
        "models/models.lock": json.dumps(
            {
                "v": 1,
                "models": {"whisper-tiny.en": {"source": "x", "files": {"model.bin": {"size": 1, "sha256": "0"}}}},
            }
        ),
        "models/whisper/tiny.en/model.bin": "gigabytes",
        "backups/roomtone-old.tar.gz": "an older backup",
        f"{FILE_NAME}.corrupt-2026": "what was set aside",
        "before-restore-2026/x": "what was set aside, too",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "etc" / "config.yaml"
    (file.parent / "credentials").mkdir(parents=True)
    file.write_text(CONFIG)
    (file.parent / "credentials" / "anthropic").write_text("a key that costs money")
    return file


def made(state: Path, config: Path | None, file: Path, **more: Any) -> backup.Made:
    return backup.make(settings_of(state), file, config=config, **more)


def restored(file: Path, state: Path, config: Path, as_new: str | None = None) -> list[str]:
    state.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=state_swap.PREPARING, dir=state) as folder:
        prepared = restore.prepare(file, Path(folder), restore.Target(state, config), as_new)
        return restore.put_in_place(prepared)


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files under a folder but the lock, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


# --------------------------------------------------------------------------------------------- making


def test_a_backup_holds_what_the_household_has_and_not_what_can_be_had_again(
    state: Path, config: Path, tmp_path: Path
) -> None:
    done = made(state, config, tmp_path / "b.tar.gz")
    assert sorted(done.manifest.files) == [
        "config/config.yaml",
        "state/hub/authority/ca.key",
        "state/hub/hub.db",
        "state/models/models.lock",
        "state/personas/gran/config.yaml",
        "state/roomtone.db",
        "state/routines/morning.yaml",
        "state/skills/bins/en.yaml",
    ]
    assert done.file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == [], "nothing is left beside it"


def test_credentials_are_in_it_only_if_asked_for(state: Path, config: Path, tmp_path: Path) -> None:
    plain, whole = made(state, config, tmp_path / "plain"), made(state, config, tmp_path / "whole", secrets=True)
    assert not plain.manifest.secrets
    assert set(whole.manifest.files) - set(plain.manifest.files) == {"config/credentials/anthropic"}
    with tarfile.open(plain.file) as tar:
        assert not any(b"costs money" in read(tar, member) for member in tar)


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None
    return content.read()


def test_folders_that_the_configuration_names_go_along(state: Path, config: Path, tmp_path: Path) -> None:
    (config.parent / "personas" / "aunt").mkdir(parents=True)
    (config.parent / "personas" / "aunt" / "config.yaml").write_text("name: Aunt")
    named = settings_of(state, personas={"dir": config.parent / "personas"})
    done = backup.make(named, tmp_path / "b", config=config)
    shutil.rmtree(config.parent / "personas")
    restored(done.file, state, config)
    assert (config.parent / "personas" / "aunt" / "config.yaml").read_text() == "name: Aunt"


def test_a_link_is_not_followed_and_said(state: Path, config: Path, tmp_path: Path) -> None:
    (state / "skills" / "leak").symlink_to("/etc/passwd")
    done = made(state, config, tmp_path / "b")
    assert done.left_out == [f"{state}/skills/leak is a link, and links are not followed"]


def test_two_backups_of_the_same_are_known_as_the_same(state: Path, config: Path, tmp_path: Path) -> None:
    first = made(state, config, tmp_path / "one")
    with pytest.raises(backup.Unchanged):
        made(state, config, tmp_path / "two", unless=lambda digest: digest == first.manifest.digest)
    assert not (tmp_path / "two").exists()
    with closing(sqlite3.connect(state / FILE_NAME)) as connection, connection:
        connection.execute("DELETE FROM timers WHERE id = 'a'")
    assert made(state, config, tmp_path / "two").manifest.digest != first.manifest.digest


def test_a_backup_of_a_room_that_goes_on_talking_is_of_one_moment(state: Path, config: Path, tmp_path: Path) -> None:
    """A writer puts two rows into each commit; every backup holds both of each or none."""
    stop = threading.Event()

    def talk() -> None:
        with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None, timeout=0.2)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            number = 0
            while not stop.is_set():
                number += 1
                connection.execute("BEGIN IMMEDIATE")
                for key in (f"a{number}", f"b{number}"):
                    connection.execute("INSERT INTO kept VALUES (?, ?, '')", (key, "x" * 2000))
                connection.execute("COMMIT")

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        files = [made(state, config, tmp_path / f"b{number}").file for number in range(4)]
    finally:
        stop.set()
        talking.join()
    counted = []
    for file in files:
        with tarfile.open(file) as tar:
            (tmp_path / "copy.db").write_bytes(read(tar, tar.getmember("state/roomtone.db")))
        [(both, whole)] = rows(
            tmp_path / "copy.db",
            "SELECT sum(key LIKE 'a%') = sum(key LIKE 'b%'), count(*) FROM kept WHERE key GLOB '[ab][0-9]*'",
        )
        assert both in (1, None)
        counted.append(whole)
        (tmp_path / "copy.db").unlink()
    assert counted[-1] > counted[0], "nobody wrote meanwhile: this test shows nothing"


def test_a_file_that_is_there_is_not_written_over(state: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("precious")
    with pytest.raises(BackupError, match="is there already"):
        made(state, config, tmp_path / "b")
    assert (tmp_path / "b").read_text() == "precious"


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a disk of some size; skip where that is not allowed."""
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size={kilobytes}k tmpfs {folder} 2>/dev/null") != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        os.system(f"umount {folder}")


def test_a_full_disk_leaves_no_half_a_backup(state: Path, config: Path, tmp_path: Path) -> None:
    (state / "skills" / "large").write_bytes(os.urandom(400_000))
    with small_disk(tmp_path / "stick", 256) as stick:
        with pytest.raises(BackupError, match=r"full|No space"):
            made(state, config, stick / "b")
        assert list(stick.iterdir()) == []


# ------------------------------------------------------------------------------------------ restoring


def test_a_backup_taken_in_on_another_machine_is_the_room_it_was(
    run: Run[Any], state: Path, config: Path, tmp_path: Path
) -> None:
    file = made(state, config, tmp_path / "b", secrets=True).file
    other, etc = tmp_path / "other" / "state", tmp_path / "other" / "etc" / "config.yaml"
    other.parent.mkdir()
    lines = restored(file, other, etc)

    async def main() -> None:
        async with open_store(other / FILE_NAME) as store:
            assert store.mended is None
            assert [turn.heard for turn in await store.history()] == [ODD, ODD]
            assert len(await store.timers()) == 5

    run(main())
    assert (other / "hub" / "authority" / "ca.key").read_text() == "the house's own key"
    assert etc.read_text() == CONFIG
    assert (etc.parent / "credentials" / "anthropic").stat().st_mode & 0o777 == 0o600
    assert any("roomtone models pull whisper-tiny.en" in line for line in lines)
    assert any("'kitchen-1' now" in line for line in lines)


def test_what_was_there_is_kept_aside_and_its_models_and_backups_stay(
    state: Path, config: Path, tmp_path: Path
) -> None:
    file = made(state, config, tmp_path / "b").file
    (state / "skills" / "new").write_text("came later")
    config.write_text("device: {id: later}\n")
    lines = restored(file, state, config)
    assert not (state / "skills" / "new").exists()
    [aside] = [path for path in state.glob("before-restore-*") if (path / "skills").exists()]
    assert (aside / "skills" / "new").read_text() == "came later"
    assert any(str(aside) in line for line in lines)
    assert (state / "models" / "whisper" / "tiny.en" / "model.bin").read_text() == "gigabytes"
    assert (state / "backups" / "roomtone-old.tar.gz").exists()
    [kept] = config.parent.glob("config.yaml.before-restore-*")
    assert kept.read_text() == "device: {id: later}\n"


def test_what_was_on_its_way_when_the_backup_was_made_is_not_sent_again(
    state: Path, config: Path, tmp_path: Path
) -> None:
    file = made(state, config, tmp_path / "b").file
    restored(file, state, config)
    assert rows(state / FILE_NAME, "SELECT * FROM outbox") == []
    assert rows(state / "hub" / "hub.db", "SELECT * FROM handoffs") == []
    assert rows(state / "hub" / "hub.db", "SELECT id FROM devices") == [("bath",)]


def test_a_machine_with_another_name_becomes_the_device_that_the_backup_is_of(
    state: Path, config: Path, tmp_path: Path
) -> None:
    config.unlink()
    file = made(state, config, tmp_path / "b").file
    restored(file, state, config)
    assert yaml.safe_load(config.read_text()) == {"device": {"id": "kitchen-1"}}


def test_a_second_room_has_another_name_no_key_to_the_house_and_no_timer_of_the_first(
    state: Path, config: Path, tmp_path: Path
) -> None:
    file = made(state, config, tmp_path / "b").file
    other, etc = tmp_path / "other", tmp_path / "second" / "config.yaml"
    etc.parent.mkdir()
    lines = restored(file, other, etc, as_new="Guest Bath")
    device = yaml.safe_load(etc.read_text())["device"]
    assert (device["id"], device["name"]) == ("guest-bath", "Guest Bath")
    assert "# by the window" in etc.read_text()
    assert not (other / "hub").exists()
    assert rows(other / FILE_NAME, "SELECT * FROM timers UNION ALL SELECT 1,2,3,4,5,6,7,8,9,10,11 FROM holds") == []
    assert rows(other / FILE_NAME, "SELECT * FROM sessions WHERE ended IS NULL") == []
    assert rows(other / FILE_NAME, "SELECT id FROM memories ORDER BY id") == [("f1",), ("f2",)]
    assert any("roomtone hub join" in line for line in lines)


@pytest.mark.parametrize("name", ["Kitchen-1", "!", ""])
def test_a_second_room_is_not_called_as_the_first(state: Path, config: Path, tmp_path: Path, name: str) -> None:
    file, before = made(state, config, tmp_path / "b").file, everything(state)
    with pytest.raises(BackupError, match="cannot be a new room's name"):
        restored(file, state, config, as_new=name)
    assert everything(state) == before


KEYS = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda key: key not in ("device", "null"))
VALUES = st.none() | st.booleans() | st.integers() | st.text("ab c#:'\"{}[],&*é\n", max_size=9)
DEVICES = st.none() | st.dictionaries(st.sampled_from(["id", "name", "room"]), st.text("ab c'#:", max_size=6))


@given(
    st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=2), min_size=1, max_size=3),
    DEVICES,
    st.booleans(),
    st.sampled_from([None, False]),
)
def test_a_device_is_named_in_any_configuration_and_nothing_else_is_changed(
    rest: dict[str, Any], device: dict[str, str] | None, there: bool, flow: bool | None
) -> None:
    tree = {**rest, "device": device} if there else rest
    text = (
        "# first\n" + yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True, sort_keys=False) + "# last\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(text, "utf-8")
        restore.edit_config(file, {"id": "new", "name": "No: 'one'"})
        edited = file.read_text("utf-8")
    expected = {**rest, "device": {**(device or {} if there else {}), "id": "new", "name": "No: 'one'"}}
    assert yaml.safe_load(edited) == expected
    assert edited.startswith("# first\n")
    assert "# last\n" in edited


# ------------------------------------------------------------------------------------- what is no backup


def packed(file: Path, manifest: dict[str, Any] | bytes, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Write an archive by hand."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with tarfile.open(file, "w:gz") as tar:
        for member, content in [(tarfile.TarInfo("manifest.json"), text), *members]:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return file


def told(**files: bytes) -> dict[str, Any]:
    import hashlib

    stamps = {name: {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()} for name, text in files.items()}
    device = {"id": "x", "name": "X", "room": "x"}
    head = {"format": 1, "made": "2026-01-01T00:00:00+00:00", "roomtone": "1", "device": device}
    return {**head, "secrets": False, "folders": {}, "files": stamps}


def linked(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member, b""


def plain(name: str, text: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), text


def newer(folder: Path) -> bytes:
    """Return a database in which a newer program has done what cannot be undone."""
    with closing(sqlite3.connect(folder / "newer.db", isolation_level=None)) as connection:
        migrate(connection, (*STEPS, Step("9999 thoughts", lambda db: None)))
    return (folder / "newer.db").read_bytes()


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda f: wrote(f / "bad", b""), "is no backup"),
    "a text": (lambda f: wrote(f / "bad", b"hello " * 1000), "is no backup"),
    "another archive": (lambda f: packed(f / "bad", b"{}", []), "manifest that cannot be read"),
    "a manifest of another kind": (lambda f: packed(f / "bad", b"[1]", []), "manifest that cannot be read"),
    "a later format": (lambda f: packed(f / "bad", {**told(), "format": 2}, []), "upgrade this one"),
    "a way out": (
        lambda f: packed(f / "bad", told(**{"state/../../out": b"x"}), [plain("state/../../out")]),
        "belongs nowhere",
    ),
    "the root": (lambda f: packed(f / "bad", told(**{"/etc/out": b"x"}), [plain("/etc/out")]), "belongs nowhere"),
    "another place": (
        lambda f: packed(f / "bad", told(**{"cron/out": b"x"}), [plain("cron/out")]),
        "belongs nowhere",
    ),
    "a link": (
        lambda f: packed(f / "bad", told(**{"state/a": b""}), [linked("state/a", "/etc/passwd")]),
        "which its manifest does not",
    ),
    "a link to write through": (
        lambda f: packed(f / "bad", told(**{"state/a/b": b"x"}), [linked("state/a", "/etc"), plain("state/a/b")]),
        "which its manifest does not",
    ),
    "a stranger": (lambda f: packed(f / "bad", told(), [plain("state/a")]), "which its manifest does not"),
    "one twice": (
        lambda f: packed(f / "bad", told(**{"state/a": b"x"}), [plain("state/a"), plain("state/a")]),
        "which its manifest does not",
    ),
    "one missing": (lambda f: packed(f / "bad", told(**{"state/a": b"x"}), []), "state/a is missing"),
    "one changed": (
        lambda f: packed(f / "bad", told(**{"state/a": b"x"}), [plain("state/a", b"y")]),
        "not what was put in",
    ),
    "no database": (
        lambda f: packed(
            f / "bad", told(**{"state/roomtone.db": b"x" * 4096}), [plain("state/roomtone.db", b"x" * 4096)]
        ),
        "database that cannot be read",
    ),
    "a newer store": (
        lambda f: packed(
            f / "bad",
            told(**{"state/roomtone.db": newer(f)}),
            [plain("state/roomtone.db", (f / "newer.db").read_bytes())],
        ),
        "made by a newer Roomtone; upgrade",
    ),
    "more than the disk holds": (
        lambda f: packed(f / "bad", {**told(), "files": {"state/a": {"size": 10**18, "sha256": ""}}}, []),
        "lacks",
    ),
}


def wrote(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_backup_is_refused_in_one_line_and_nothing_is_touched(
    state: Path, config: Path, tmp_path: Path, what: str
) -> None:
    make, said = BAD[what]
    file, before = make(tmp_path), (everything(state), everything(config.parent))
    with pytest.raises(BackupError, match=said) as refused:
        restored(file, state, config)
    assert "\n" not in refused.value.message
    assert (everything(state), everything(config.parent)) == before


def test_a_backup_cut_short_or_changed_is_refused_unless_every_byte_of_what_it_holds_is_there(
    state: Path, config: Path, tmp_path: Path
) -> None:
    whole = made(state, config, tmp_path / "b").file.read_bytes()
    restored(tmp_path / "b", tmp_path / "wanted", tmp_path / "c" / "config.yaml")
    wanted, refused = everything(tmp_path / "wanted"), 0
    for at in range(1, len(whole), len(whole) // 40):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        for number, content in enumerate((whole[:at], bytes(changed))):
            target, file = tmp_path / f"{at}-{number}", wrote(tmp_path / "bad", content)
            try:
                restored(file, target, tmp_path / f"c-{at}-{number}" / "config.yaml")
            except BackupError:
                refused += 1
                assert everything(target) == {}
            else:
                assert everything(target) == wanted, "what was taken in is not what was put in"
    assert refused > 70


def test_a_newer_store_that_can_be_undone_is_taken_in(state: Path, config: Path, tmp_path: Path) -> None:
    thoughts = Step(
        "9999 thoughts",
        lambda db: db.execute("CREATE TABLE thoughts (id)"),
        ("ALTER TABLE thoughts RENAME TO kept_thoughts",),
    )
    with closing(sqlite3.connect(state / FILE_NAME, isolation_level=None)) as connection:
        migrate(connection, (*STEPS, thoughts))
    file = made(state, config, tmp_path / "b").file
    restored(file, tmp_path / "other", config)
    assert rows(tmp_path / "other" / FILE_NAME, "SELECT * FROM kept_thoughts") == []


def test_a_state_that_is_kept_elsewhere_is_not_restored_here(state: Path, config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG + "state_dir: /srv/roomtone\n")
    file, before = made(state, config, tmp_path / "b").file, everything(state)
    with pytest.raises(BackupError, match="--state-dir /srv/roomtone"):
        restored(file, state, config)
    assert everything(state) == before


def test_a_path_in_a_backup_reaches_nothing_but_the_configuration(state: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "aunt").mkdir(parents=True)
    (tmp_path / "far" / "aunt" / "config.yaml").write_text("name: Aunt")
    file = backup.make(settings_of(state, personas={"dir": tmp_path / "far"}), tmp_path / "b", config=config).file
    shutil.rmtree(tmp_path / "far")
    lines = restored(file, state, config)
    assert not (tmp_path / "far").exists()
    assert (config.parent / "personas" / "aunt" / "config.yaml").exists()
    assert any("set personas.dir" in line for line in lines)


# ------------------------------------------------------------------------------------- cuts, and who is there


def test_a_power_cut_at_any_rename_is_finished_by_who_takes_the_folder_next(
    run: Run[Any], state: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(state, config, tmp_path / "b").file
    (state / "skills" / "new").write_text("came later")
    before, renames = everything(state), 0
    rename = Path.rename

    def cut(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return rename(path, target)

    left = 10**6
    whole = tmp_path / "whole"
    shutil.copytree(state, whole)
    monkeypatch.setattr(Path, "rename", cut)
    restored(file, whole, tmp_path / "c" / "config.yaml")
    renames = 10**6 - left
    assert renames > 8
    wanted = {name: text for name, text in everything(whole).items() if "before-restore-" not in name}

    async def taken(folder: Path) -> None:
        async with state_lock(folder):
            pass

    for number in range(renames):
        folder = tmp_path / f"cut-{number}"
        shutil.copytree(state, folder)
        left = number
        with pytest.raises(KeyboardInterrupt):
            restored(file, folder, tmp_path / f"c-{number}" / "config.yaml")
        left = 10**6
        run(taken(folder))
        after = everything(folder)
        plain = {name: text for name, text in after.items() if "before-restore-" not in name}
        unchanged = {name: text for name, text in before.items() if "before-restore-" not in name}
        assert plain in (wanted, unchanged)
        assert b"came later" in after.values(), "what was there is there, or kept aside"


def test_a_room_that_runs_is_not_restored_over(
    run: Run[Any], state: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, before = made(state, config, tmp_path / "b").file, everything(state)

    async def main() -> None:
        async with state_lock(state):
            loop_thread = threading.Thread(
                target=lambda: codes.append(
                    cli.main(["restore", str(file), "--state-dir", str(state), "--config", str(config)])
                )
            )
            loop_thread.start()
            while loop_thread.is_alive():
                loop_thread.join(0.05)

    codes: list[int] = []
    run(main())
    assert codes == [1]
    assert "stop that one" in capsys.readouterr().err
    assert everything(state) == before


def test_the_commands_say_what_they_did(
    state: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + "llm: {providers: {x: {engine: openai, model: m, api_key: sk-123}}}\n")
    where = ["--state-dir", str(state), "--config", str(config)]
    assert cli.main(["backup", str(tmp_path), *where]) == 0
    out, err = capsys.readouterr()
    assert "without credentials; with them: --with-secrets" in err
    assert "itself holds a secret, which is in the backup: llm.providers.x.api_key" in err
    assert "sk-123" not in out + err
    [file] = tmp_path.glob("roomtone-kitchen-1-*.tar.gz")
    assert cli.main(["restore", str(file), *where]) == 0
    assert "Restored as it was on" in capsys.readouterr().out
    assert cli.main(["restore", str(tmp_path / "none"), *where]) == 1
    assert cli.main(["backup", str(tmp_path / "no" / "folder"), *where]) == 1
    assert "name another place" in capsys.readouterr().err
