"""The units as they are shipped: what systemd finds wrong with them, and what they may do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "systemd"
UNITS = sorted(file for file in FOLDER.iterdir() if file.suffix in (".service", ".timer", ".path"))
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
PROGRAMS = re.compile(r"/opt/roomtone/current/(venv/bin/roomtone|install\.sh)(?= )")

EXPOSED = 20
"""Ten times the exposure, as ``systemd-analyze security`` counts it, that no service may go beyond."""

HARDWARE = ("audio", "gpio", "spi", "i2c")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "systemd" not in os.environ.get("ROOMTONE_REQUIRE", ""),
    reason="systemd-analyze is not installed",
)


def keys(unit: Path) -> dict[str, list[str]]:
    """Return what a unit sets, all sections together."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^(\w+)=(.*)$", unit.read_text("utf-8")):
        found.setdefault(key, []).append(value)
    return found


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


def verified(folder: Path, *names: str) -> tuple[int, str]:
    """Let systemd check units as if Roomtone were installed here; return its exit code and what it wrote."""
    folder.mkdir(exist_ok=True)
    for unit in UNITS:
        (folder / unit.name).write_text(PROGRAMS.sub("/bin/true", unit.read_text("utf-8")), "utf-8")
    done = analyze("verify", "--man=no", *(folder / name for name in names))
    return done.returncode, done.stdout + done.stderr


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    assert verified(tmp_path, *(unit.name for unit in UNITS)) == (0, "")


@needs_systemd
def test_a_key_that_systemd_does_not_know_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "odd.service").write_text("[Service]\nExecStart=/bin/true\nRestartWhenever=yes\n")
    code, said = verified(tmp_path, "odd.service")
    assert code == 0
    assert "RestartWhenever" in said, "an unknown key only warns"


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_no_service_is_more_exposed_than_it_must_be(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", unit)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    assert done.returncode == 0, last + done.stderr
    assert not done.stderr


@pytest.mark.parametrize("name", ["roomtone", "roomtone-hub"])
def test_a_service_is_watched_begun_anew_for_ever_and_given_its_secrets(name: str) -> None:
    unit = keys(FOLDER / f"{name}.service")
    assert (unit["Type"], unit["NotifyAccess"], unit["Restart"]) == (["notify"], ["main"], ["always"])
    assert int(unit["WatchdogSec"][0]) == 30
    assert unit["StartLimitIntervalSec"] == ["0"], "a room that has given up stays silent until somebody comes"
    assert unit["LoadCredential"] == ["roomtone:/etc/roomtone/credentials"]
    assert unit["StateDirectory"] == ["roomtone"]
    assert unit["User"] == ["roomtone"]
    assert "MemoryMax" in unit
    assert not {"RestartSteps", "RestartMaxDelaySec"} & unit.keys(), "systemd 252 does not know them"


BROKERS = ("ca.pem", "server.pem", "server.key", "crl.pem", "acl")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can act for another user")
@pytest.mark.parametrize("link", [None, *BROKERS])
def test_the_broker_is_given_what_the_hubs_user_may_read_and_nothing_of_roots(link: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hub, etc, of_root = (Path(folder) / name for name in ("hub", "etc", "shadow"))
        hub.mkdir()
        etc.mkdir()
        of_root.write_text("root's")
        of_root.chmod(0o600)
        Path(folder).chmod(0o755)
        for name in BROKERS:
            (hub / name).write_text(name)
            (etc / name).write_text("before")
        if link is not None:
            (hub / link).unlink()
            (hub / link).symlink_to(of_root)
        text = (FOLDER / "roomtone-broker.service").read_text("utf-8").replace("\\\n", "")
        [script] = re.findall(r"(?m)^ExecStart=/bin/sh -c '(.*)'$", text)
        for there, here in {
            "$$": "$",
            "/var/lib/roomtone/hub/mosquitto": str(hub),
            "/etc/mosquitto/roomtone": str(etc),
            "id=roomtone": "id=54321",
            "chgrp mosquitto": "chgrp 54322",
        }.items():
            assert there in script
            script = script.replace(there, here)
        done = subprocess.run(["/bin/sh", "-c", script], check=False, timeout=60, capture_output=True, umask=0o077)
        given = {name: (etc / name).read_text() for name in BROKERS}
        assert (done.returncode == 0) == (link is None), done.stderr
        assert link is None or given[link] == "before"
        assert "root's" not in given.values()
        fresh = [etc / name for name in BROKERS if given[name] == name]
        assert {(file.stat().st_gid, file.stat().st_mode & 0o777) for file in fresh} <= {(54322, 0o640)}
        assert len(fresh) == (len(BROKERS) if link is None else BROKERS.index(link))


def test_real_time_is_for_the_room_alone() -> None:
    asking = {unit.stem for unit in SERVICES if keys(unit).get("RestrictRealtime") != ["yes"]}
    limits = {unit.stem for unit in SERVICES if "LimitRTPRIO" in keys(unit)}
    assert limits == {"roomtone"}
    assert asking == {"roomtone"}


def test_a_group_that_a_machine_has_not_keeps_no_room_silent() -> None:
    assert not any("SupplementaryGroups" in keys(unit) for unit in SERVICES), "a missing one fails the unit"
    made = re.findall(r"(?m)^m roomtone (\w+)$", (FOLDER / "roomtone.sysusers").read_text("utf-8"))
    assert tuple(made) == HARDWARE


def test_the_room_may_use_sound_pins_and_lights_and_no_other_device() -> None:
    unit = keys(FOLDER / "roomtone.service")
    assert unit["DevicePolicy"] == ["closed"]
    assert unit["DeviceAllow"] == [f"char-{kind} rw" for kind in ("alsa", "gpiochip", "spi", "spidev", "i2c")]
    assert "PrivateDevices" not in unit, "it would hide the sound card"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_runs_the_version_that_the_one_link_names(unit: Path) -> None:
    text = unit.read_text("utf-8")
    assert "/opt/roomtone/venv" not in text
    assert not re.search(r"/opt/roomtone/versions", text)


@needs_systemd
@pytest.mark.parametrize("there", [(), ("audio",), HARDWARE])
def test_the_user_is_made_with_its_groups_whatever_groups_there_are(there: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed")
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "group").write_text("".join(f"{name}:x:{900 + n}:\n" for n, name in enumerate(there)))
    for _ in range(2):  # a second installation changes nothing
        command = ["systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "roomtone.sysusers")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    groups = dict(line.split(":", 1) for line in (etc / "group").read_text().splitlines())
    assert {name for name, rest in groups.items() if rest.endswith(":roomtone")} == set(HARDWARE)
    assert len((etc / "passwd").read_text().splitlines()) == 1
