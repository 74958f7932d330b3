"""The installer on a bare Debian in a folder: what it leaves there, and that nothing leaves half of anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest

import bare_machine
import small_release
from bare_machine import in_memory, inside, layer
from machine import SOURCE, booted, until

Layer = Callable[[], AbstractContextManager[Path]]
KILL_AT = (40, 130, 160, 190, 215, 225, 235, 240, 245, 250, 255, 260, 265)
QUICKLY = (190, 235, 255)
"""Before which of its commands the installer is killed: in each of its seven steps, thickest around the switch."""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold releases 1 to 4, of which 2 never becomes ready and 3 is not heard, and their signed archives."""
    folder = tmp_path_factory.mktemp("releases")
    private, other = small_release.key(folder), small_release.key(folder, "other")
    for version, kind in (("1", "good"), ("2", "broken"), ("3", "silent"), ("4", "good")):
        made = small_release.release(folder, version, kind)
        small_release.publish(made, private)
        small_release.packed(made, private, folder)
    foreign = folder / "foreign"
    foreign.mkdir()
    small_release.packed(folder / "roomtone-4", other, foreign)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, releases: Path) -> Iterator[Path]:
    """Be a machine that has only Debian, and the releases in /root."""
    bare_machine.need()
    with in_memory(tmp_path_factory.mktemp("machine") / "memory") as folder:
        root = bare_machine.unpacked(folder / "root")
        shutil.copytree(releases, root / "root/releases")
        yield root


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, bare: Path) -> Iterator[Path]:
    """Be a machine on which release 1 is installed."""
    with layer(bare, tmp_path_factory.mktemp("ready") / "layer") as root:
        done = inside(root, "/root/releases/roomtone-1/install.sh")
        assert done.returncode == 0, done.stdout
        (root / "var/lib/roomtone/roomtone.db").touch()
        shutil.chown(root / "var/lib/roomtone/roomtone.db", *_owner(root / "var/lib/roomtone"))
        yield root


@pytest.fixture
def new(bare: Path, tmp_path: Path) -> Layer:
    """Give machines that have only Debian."""
    number = count()
    return lambda: layer(bare, tmp_path / f"new{next(number)}")


@pytest.fixture
def installed(ready: Path, tmp_path: Path) -> Layer:
    """Give machines on which release 1 is installed."""
    number = count()
    return lambda: layer(ready, tmp_path / f"installed{next(number)}")


def _owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def version(root: Path) -> str:
    """Return the version that /opt/roomtone/current leads to."""
    return (root / "opt/roomtone/current").readlink().name.split("-")[0]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Return what lies in the installation, and when it was written."""
    files = (root / "opt/roomtone").rglob("*")
    return {str(f): (f.lstat().st_ino, f.lstat().st_mtime_ns) for f in files if f.suffix != ".log" and not f.is_dir()}


# ------------------------------------------------------------------------------------------ what it leaves


def test_one_command_makes_an_installation_without_a_network(ready: Path) -> None:
    ran = inside(ready, "roomtone --version; roomtone upgrade 2>&1; /opt/roomtone/current/install.sh status")
    assert "roomtone 1" in ran.stdout
    assert (ready / "opt/roomtone/current/complete").exists()
    state, config = ready / "var/lib/roomtone", ready / "etc/roomtone"
    user = inside(ready, "id -u roomtone; getent group roomtone | cut -d: -f3").stdout.split()
    assert [str(number) for number in _owner(state)] == user[:2]
    assert state.stat().st_mode & 0o777 == 0o700
    assert config.stat().st_mode & 0o777 == 0o750
    assert (config / "credentials").stat().st_mode & 0o777 == 0o700
    assert _owner(config / "credentials") == (0, 0)


def test_its_units_are_links_through_the_one_that_is_switched_and_start_at_boot(ready: Path) -> None:
    units = ready / "etc/systemd/system"
    shipped = {file.name for file in (SOURCE / "systemd").glob("roomtone*.*") if file.suffix != ".sysusers"}
    hub = {name for name in shipped if name.startswith(("roomtone-hub", "roomtone-broker"))}
    linked = {file.name: str(file.readlink()) for file in units.glob("roomtone*")}
    assert linked == {name: f"/opt/roomtone/current/systemd/{name}" for name in shipped - hub}
    assert (units / "multi-user.target.wants/roomtone.service").is_symlink()
    assert (units / "multi-user.target.wants/roomtone-trial.service").is_symlink()


def test_a_second_run_is_quick_says_so_and_writes_nothing(installed: Layer) -> None:
    with installed() as root:
        before = tree(root)
        again = inside(root, "/root/releases/roomtone-1/install.sh")
        assert again.returncode == 0
        assert "is installed already" in again.stdout
        assert "Python's packages" not in again.stdout
        assert {path: when for path, when in tree(root).items() if "current" not in path} == {
            path: when for path, when in before.items() if "current" not in path
        }


def test_what_somebody_disabled_stays_disabled(installed: Layer) -> None:
    with installed() as root:
        wants = root / "etc/systemd/system/multi-user.target.wants/roomtone.service"
        wants.unlink()
        assert inside(root, "/root/releases/roomtone-4/install.sh").returncode == 0
        assert not wants.is_symlink()


def test_a_part_can_be_added_later_and_the_hub_brings_its_units(installed: Layer) -> None:
    with installed() as root:
        done = inside(root, "/opt/roomtone/current/install.sh --with hub --wheels /root/releases/roomtone-1/wheels")
        assert done.returncode == 0, done.stdout
        units = root / "etc/systemd/system"
        assert (units / "multi-user.target.wants/roomtone-hub.service").is_symlink()
        inside(root, "/root/releases/roomtone-4/install.sh")
        assert (units / "roomtone-hub.service").is_symlink(), "the parts that were chosen are kept"


def test_another_part_is_brought_by_the_installed_version_itself(installed: Layer) -> None:
    with installed() as root:
        done = inside(
            root, "/opt/roomtone/current/install.sh --with wyoming --wheels /root/releases/roomtone-1/wheels"
        )
        assert done.returncode == 0, done.stdout
        assert (root / "opt/roomtone/current/parts").read_text() == "wyoming\n"
        assert version(root) == "1"


def test_a_configuration_is_taken_in_and_a_wrong_one_is_not(installed: Layer) -> None:
    with installed() as root:
        (root / "root/good.yaml").write_text("device: {name: Kitchen}\n")
        (root / "root/wrong.yaml").write_text("nonsense\n")
        assert inside(root, "/root/releases/roomtone-1/install.sh --config /root/good.yaml").returncode == 0
        config = root / "etc/roomtone/config.yaml"
        assert config.stat().st_mode & 0o777 == 0o640
        refused = inside(root, "/root/releases/roomtone-1/install.sh --config /root/wrong.yaml")
        assert refused.returncode == 1
        assert "wrong.yaml cannot be used" in refused.stdout
        assert config.read_text() == "device: {name: Kitchen}\n"


def test_uninstalling_keeps_the_state_and_purging_does_not(installed: Layer) -> None:
    with installed() as root:
        assert inside(root, "/opt/roomtone/current/install.sh uninstall").returncode == 0
        assert not (root / "opt/roomtone").exists()
        assert not list((root / "etc/systemd/system").rglob("roomtone*"))
        assert not (root / "usr/local/bin/roomtone").is_symlink()
        assert (root / "var/lib/roomtone/roomtone.db").exists()
        assert inside(root, "/root/releases/roomtone-1/install.sh uninstall --purge").returncode == 0
        assert not (root / "var/lib/roomtone").exists()
        assert not (root / "etc/roomtone").exists()
        assert inside(root, "id roomtone").returncode == 1


# ------------------------------------------------------------------------------------------ another version


def test_an_upgrade_keeps_two_versions_and_a_rollback_takes_turns(installed: Layer) -> None:
    with installed() as root:
        done = inside(root, "/opt/roomtone/current/install.sh upgrade /root/releases/roomtone-2.tar")
        assert done.returncode == 0, done.stdout
        assert (root / "var/lib/roomtone/backups").is_dir()
        assert [file.read_text() for file in (root / "var/lib/roomtone/backups").iterdir()] == [
            "the state as 1 knew it"
        ]
        done = inside(root, "/opt/roomtone/current/install.sh upgrade /root/releases/roomtone-4.tar")
        assert done.returncode == 0, done.stdout
        assert version(root) == "4"
        kept = {folder.name.split("-")[0] for folder in (root / "opt/roomtone/versions").iterdir()}
        assert kept == {"2", "4"}
        assert not (root / "opt/roomtone/incoming").exists()
        for expected in ("2", "4"):
            back = inside(root, "/opt/roomtone/current/install.sh rollback")
            assert back.returncode == 0, back.stdout
            assert version(root) == expected
        again = "/opt/roomtone/current/install.sh rollback && /opt/roomtone/current/install.sh upgrade "
        done = inside(root, f"{again} /root/releases/roomtone-4.tar")
        assert done.returncode == 0, done.stdout
        names = [file.name for file in (root / "var/lib/roomtone/backups").iterdir()]
        assert len(names) == 2
        assert all(name.startswith("before-") and name.endswith(".tar.gz") for name in names)


def test_there_is_no_rollback_without_a_version_before(installed: Layer) -> None:
    with installed() as root:
        refused = inside(root, "/opt/roomtone/current/install.sh rollback")
        assert refused.returncode == 1
        assert "there is no version before" in refused.stdout
        assert version(root) == "1"


@pytest.mark.parametrize("fault", ["changed", "half", "no signature", "another's", "no signature at all"])
def test_an_archive_that_is_not_ours_is_not_even_unpacked(installed: Layer, fault: str) -> None:
    with installed() as root:
        archive = root / "root/releases/roomtone-4.tar"
        signature = archive.with_name(archive.name + ".sig")
        if fault == "changed":
            archive.write_bytes(archive.read_bytes().replace(b"READY=1", b"READY=0"))
        elif fault == "half":
            archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
        elif fault == "another's":
            archive = root / "root/releases/foreign/roomtone-4.tar"
        elif fault == "no signature":
            signature.unlink()
        else:
            signature.write_bytes(b"")
        before = tree(root)
        refused = inside(root, f"/opt/roomtone/current/install.sh upgrade /{archive.relative_to(root)}")
        assert refused.returncode == 1
        assert refused.stdout.count("install.sh:") == 1
        assert "sign" in refused.stdout
        assert tree(root) == before


def test_what_is_installed_on_a_machine_that_runs_does_not_wait_for_its_next_boot(new: Layer) -> None:
    with new() as root, booted(root) as machine:
        done = machine.shell("/root/releases/roomtone-1/install.sh --with hub", seconds=300)
        assert done.returncode == 0, done.stdout
        for unit in ("roomtone.service", "roomtone-maintenance.timer", "roomtone-broker.path"):
            machine.until_active(unit)


def test_a_version_that_does_not_become_ready_is_taken_back(installed: Layer) -> None:
    with installed() as root, booted(root) as machine:
        machine.until_active("roomtone")
        done = machine.shell("/opt/roomtone/current/install.sh upgrade /root/releases/roomtone-2.tar", seconds=300)
        assert done.returncode == 1
        assert "did not work here and 1-" in done.stdout
        assert version(root) == "1"
        machine.until_active("roomtone")
        assert not (root / "opt/roomtone/trial").exists()


@pytest.mark.long
def test_a_version_that_is_not_heard_any_more_is_taken_back_and_a_good_one_stays(installed: Layer) -> None:
    with installed() as root, booted(root) as machine:
        machine.until_active("roomtone")
        done = machine.shell("/opt/roomtone/current/install.sh upgrade /root/releases/roomtone-3.tar", seconds=300)
        assert "its own chirp was not heard" in done.stdout
        assert version(root) == "1"
        done = machine.shell("/opt/roomtone/current/install.sh upgrade /root/releases/roomtone-4.tar", seconds=300)
        assert done.returncode == 0, done.stdout
        assert version(root) == "4"
        assert (
            "versions/4-"
            in machine.shell("tr '\\0' ' ' </proc/$(systemctl show -P MainPID roomtone)/cmdline", seconds=300).stdout
        )


# ------------------------------------------------------------------------------------------ cut off


KILLER = """
trap '[ $BASH_SUBSHELL = 0 ] && [ "$(basename "$0")" = install.sh ] && [ "${NTH:=0}" -lt WHEN ] && NTH=$((NTH + 1)) &&
    [ $NTH = WHEN ] && kill -9 -- -$$' DEBUG
set -o functrace
"""


def killed(script: str, when: int) -> str:
    """Return what runs a script and kills it, and all that it started, before its command of that number."""
    killer = KILLER.replace("WHEN", str(when)).replace("\n    ", " ")
    return f"cat >/tmp/killer <<'END'\n{killer}\nEND\nBASH_ENV=/tmp/killer setsid --wait {script}"


@pytest.mark.long
def test_a_power_cut_before_a_new_version_was_seen_to_work_is_made_good_at_the_next_boot(installed: Layer) -> None:
    cut = (
        "trap '[[ $BASH_COMMAND == \"link_units\" ]] && [ -e /opt/roomtone/trial ] && kill -9 $$' DEBUG\n"
        "set -o functrace\n"
    )
    with installed() as root:
        for archive, stays in (("roomtone-2", "1"), ("roomtone-4", "4")):
            (root / "root/cut").write_text(cut)
            with booted(root) as machine:
                machine.until_active("roomtone")
                machine.shell(
                    f"BASH_ENV=/root/cut /opt/roomtone/current/install.sh upgrade /root/releases/{archive}.tar",
                    seconds=300,
                )
                assert version(root) == archive[-1]
                assert (root / "opt/roomtone/trial").exists()
                machine.kill()
            with booted(root) as machine:
                until(lambda: not (root / "opt/roomtone/trial").exists(), "the trial is over")
                assert version(root) == stays
                machine.until_active("roomtone")


@pytest.mark.parametrize(
    "when", [when if when in QUICKLY else pytest.param(when, marks=pytest.mark.long) for when in KILL_AT]
)
def test_killed_anywhere_what_ran_before_runs_and_the_next_run_mends_it(
    installed: Layer, new: Layer, when: int
) -> None:
    with installed() as root:
        script = "/root/releases/roomtone-4/install.sh"
        cut = inside(root, killed(script, when))
        assert cut.returncode != 0, f"the installer has fewer than {when} commands: choose others"
        runs = inside(root, "roomtone --version").stdout
        assert "roomtone 1" in runs or "roomtone 4" in runs
        again = inside(root, script)
        assert again.returncode == 0, again.stdout
        assert version(root) == "4"
        assert not (root / "opt/roomtone/trial").exists()
        assert (root / "etc/systemd/system/multi-user.target.wants/roomtone.service").is_symlink()
        assert inside(root, "/opt/roomtone/current/install.sh rollback; roomtone --version").stdout.count(
            "roomtone 1"
        )


@pytest.mark.parametrize("before", ["point?current*", "point?previous*", "link_units", "rm?*going-back*"])
def test_a_rollback_that_is_killed_goes_back_when_it_is_run_again_and_not_forward(
    installed: Layer, before: str
) -> None:
    cut = f"trap '[[ $BASH_COMMAND != {before} ]] || kill -9 $$' DEBUG\nset -o functrace\n"
    with installed() as root:
        assert inside(root, "/root/releases/roomtone-4/install.sh").returncode == 0
        (root / "root/cut").write_text(cut)
        killed = inside(root, "BASH_ENV=/root/cut /opt/roomtone/current/install.sh rollback; echo rc $?")
        assert "rc 137" in killed.stdout
        again = inside(root, "/opt/roomtone/current/install.sh rollback")
        assert again.returncode == 0, again.stdout
        assert version(root) == "1"
        assert (root / "opt/roomtone/previous").readlink().name.startswith("4-")
        assert inside(root, "/opt/roomtone/current/install.sh rollback").returncode == 0
        assert version(root) == "4"


def test_an_archive_whose_installer_fails_is_not_left_on_the_disk(installed: Layer) -> None:
    with installed() as root:
        pretence = root / "usr/local/sbin/dpkg"
        pretence.write_text("#!/bin/sh\necho armhf\n")
        pretence.chmod(0o755)
        refused(root, "/opt/roomtone/current/install.sh upgrade /root/releases/roomtone-4.tar", "32 bits")
        assert not (root / "opt/roomtone/incoming").exists()


# ------------------------------------------------------------------------------------------ what it refuses


def test_two_at_once_are_one_and_a_line_that_says_who(new: Layer) -> None:
    at_work = "until [ -s /run/roomtone-install/lock ]; do sleep 0.05; done"
    script = f"cd /root/releases; roomtone-1/install.sh & {at_work}; roomtone-4/install.sh; echo rc $?; wait"
    with new() as root:
        both = inside(root, script).stdout
        assert "rc 1" in both
        assert "another installation is at work (process" in both
        assert version(root) == "1"


PRETENCES = {
    "a 32-bit system": ("dpkg", "echo armhf", "this system has 32 bits (armhf"),
    "another machine": ("dpkg", "echo riscv64", "Roomtone runs on arm64 and amd64, not on riscv64"),
    "an old Python": ("python3", "echo 3.9", "Python 3.9 is too old"),
    "a Python from the future": ("python3", "echo 3.15", "Python 3.15 is newer"),
}


@pytest.mark.parametrize("what", PRETENCES)
def test_a_machine_that_cannot_is_told_why_in_a_line(new: Layer, what: str) -> None:
    program, says, expected = PRETENCES[what]
    with new() as root:
        pretence = root / "usr/local/sbin" / program
        pretence.write_text(f"#!/bin/sh\n{says}\n")
        pretence.chmod(0o755)
        refused(root, "/root/releases/roomtone-1/install.sh", expected)


TROUBLES = {
    "mount -t tmpfs -o ro none /opt": "/opt cannot be written",
    "mount -t tmpfs -o size=20m none /opt": "no space: ",
    "rm /root/releases/roomtone-1/wheels/pip*": "Python's venv module cannot be installed",
    "echo x >>/root/releases/roomtone-1/wheels/small*": "is not the one the lock names",
    "rm /root/releases/roomtone-1/wheels/small*": "has no small==1",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_is_told_in_a_line_and_leaves_nothing(new: Layer, trouble: str) -> None:
    with new() as root:
        refused(root, f"{trouble} && /root/releases/roomtone-1/install.sh", TROUBLES[trouble])
        assert not (root / "opt/roomtone/current").is_symlink()
        left = {file.name for file in (root / "opt/roomtone").rglob("*") if not file.is_dir()}
        assert left <= {"pip.log", "apt.log"}, "half a version fills the disk of a room that runs"


def refused(root: Path, script: str, why: str) -> None:
    ran = inside(root, script)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("install.sh:")]
    assert ran.returncode == 1, ran.stdout
    assert len(lines) == 1, ran.stdout
    assert why in lines[0]


def test_who_is_not_root_is_told_what_to_type(new: Layer) -> None:
    with new() as root:
        shutil.copytree(root / "root/releases/roomtone-1", root / "srv/release")
        ran = inside(root, "/srv/release/install.sh --with hub,web", user="nobody")
        assert ran.returncode == 1
        assert "only root may do this; run: sudo /srv/release/install.sh --with hub,web\n" in ran.stdout


@pytest.mark.parametrize("words", ["status", "rollback", "upgrade /root/releases/roomtone-2.tar"])
def test_where_nothing_is_installed_that_is_all_that_is_said(new: Layer, words: str) -> None:
    with new() as root:
        ran = inside(root, f"/root/releases/roomtone-1/install.sh {words}")
        assert ran.returncode == 1
        assert ran.stdout.startswith("install.sh: Roomtone is not installed here; ")
        assert ran.stdout.count("install.sh: ") == 1, ran.stdout
        assert "find: " not in ran.stdout


def test_wrong_words_end_with_2_and_change_nothing(new: Layer) -> None:
    for words in ("--with cheese", "--colour", "upgrade", "--wheels /nowhere", "dance", "--with"):
        with new() as root:
            ran = inside(root, f"/root/releases/roomtone-1/install.sh {words}")
            assert ran.returncode == 2, ran.stdout
            assert ran.stdout.count("install.sh:") == 1
            assert not (root / "opt/roomtone").exists()


def test_the_lock_names_every_package_with_hashes_for_every_part() -> None:
    lines = (SOURCE / "requirements-install.lock").read_text().splitlines()
    assert all("==" in line and "--hash=sha256:" in line and "  # " in line for line in lines)
    parts = {part for line in lines for part in line.split("  # ")[1].split()}
    usage = subprocess.run(
        [str(SOURCE / "scripts/install.sh"), "--help"], check=True, stdout=subprocess.PIPE, text=True
    )
    assert parts - {"core", "build", "wake"} <= set(re.findall(r"[a-z]+", usage.stdout))
