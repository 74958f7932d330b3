"""Root restores into a folder of another user: whatever that one has laid there, nothing outside is touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roomtone import cli, state_swap
from roomtone.upkeep import backup, restore
from test_backup import config, made, state

__all__ = ["config", "state"]  # fixtures

SERVICE = 54321
"""A user that no machine has, whose the state is."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that every user reaches."""
    with tempfile.TemporaryDirectory(prefix="roomtone-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def file(state: Path, config: Path, tmp_path: Path) -> Path:
    """A backup, whose state belongs to the service from then on."""
    whole = made(state, config, tmp_path / "b").file
    for path in (state, *state.rglob("*")):
        os.chown(path, SERVICE, SERVICE)
    return whole


@pytest.fixture
def of_root(tmp_path: Path) -> Path:
    """A folder of root's with a file in it."""
    folder = tmp_path / "of-root"
    folder.mkdir()
    (folder / "passwd").write_text("root")
    return folder


def laid(path: Path) -> None:
    os.chown(path, SERVICE, SERVICE, follow_symlinks=False)


def restoring(file: Path, state: Path, config: Path) -> int:
    return cli.main(["restore", str(file), "--state-dir", str(state), "--config", str(config)])


def untouched(folder: Path) -> bool:
    there = folder / "passwd"
    owners = {folder.stat().st_uid, there.stat().st_uid}
    return list(folder.iterdir()) == [there] and there.read_text() == "root" and owners == {0}


def test_what_root_restores_is_the_services_and_the_configuration_roots(
    file: Path, state: Path, config: Path, of_root: Path
) -> None:
    (state / "personas" / "gran" / "config.yaml").unlink()
    (state / "left-by-root").mkdir(mode=0o700)
    assert restoring(file, state, config) == 0
    assert {path.lstat().st_uid for path in (state, *state.rglob("*"))} == {SERVICE}
    assert (state / "personas" / "gran" / "config.yaml").read_text() == "name: Gran"
    assert (config.stat().st_uid, config.stat().st_gid) == (0, SERVICE)
    assert not list(config.parent.glob(f"*{state_swap.PREPARING}*"))
    assert not list(state.glob(f"{state_swap.PREPARING}*"))
    assert os.geteuid() == 0


def test_a_lock_that_is_a_link_costs_nothing_of_roots(file: Path, state: Path, config: Path, of_root: Path) -> None:
    (state / "lock").symlink_to(of_root / "passwd")
    laid(state / "lock")
    assert restoring(file, state, config) != 0
    assert untouched(of_root)


def test_a_swap_that_its_owner_has_made_up_moves_nothing_to_roots(
    file: Path, state: Path, config: Path, of_root: Path
) -> None:
    made_up = state / state_swap.DECIDED
    (made_up / state_swap.NEW).mkdir(parents=True)
    (made_up / state_swap.ASIDE).write_text(str(of_root))
    for path in (made_up, *made_up.rglob("*")):
        laid(path)
    restoring(file, state, config)
    assert untouched(of_root)


@pytest.mark.parametrize("step", ["_migrate", "_check_config", "decide", "finish"])
def test_a_link_that_is_laid_while_root_restores_leads_nowhere(
    file: Path, state: Path, config: Path, of_root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    was: Callable[..., object] = getattr(restore, step)

    def meanwhile(*args: object) -> object:
        for folder in [*state.glob(f"{state_swap.PREPARING}*"), *state.glob(state_swap.DECIDED)]:
            if not folder.is_symlink():
                folder.rename(state / "elsewhere")
                folder.symlink_to(of_root)
                laid(folder)
        return was(*args)

    monkeypatch.setattr(restore, step, meanwhile)
    restoring(file, state, config)
    assert untouched(of_root)
    assert "root" not in config.read_text()


def test_the_configuration_that_is_put_in_place_is_that_of_the_backup(
    file: Path, state: Path, config: Path, of_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = restore._check_places

    def meanwhile(prepared: restore.Prepared) -> None:
        was(prepared)
        for own in state.rglob("config/config.yaml"):
            own.unlink()
            own.symlink_to(of_root / "passwd")

    monkeypatch.setattr(restore, "_check_places", meanwhile)
    assert restoring(file, state, config) == 0
    assert "Kitchen" in config.read_text()
    with backup.opened(file) as tar:
        assert backup.read_manifest(tar, file).device.id == "kitchen-1"
