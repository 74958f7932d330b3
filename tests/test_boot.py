"""The appliance on a real systemd: it boots, is killed, hangs, is asked, switched off and on again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from machine import Machine, a_copy, booted, installed, need_nspawn, renew, until

CONFIG = {
    "audio": {"engine": "sim"},
    "listen": {"mode": "open"},
    "hub": {"url": "mqtt://127.0.0.1:1", "username": "kitchen", "password": "credential:broker"},
}
SERVICES = ("roomtone", "roomtone-hub")
SECRET = "xylophone-secret"

DROP_IN = """
[Service]
WatchdogSec=3
# In the sandbox, as the user: what the sound card's thread does. A container cannot raise LimitRTPRIO= beyond its
# host's, so here the capability stands in for it.
AmbientCapabilities=CAP_SYS_NICE
CapabilityBoundingSet=CAP_SYS_NICE
ExecStartPre=/opt/roomtone/current/venv/bin/python -c \
    "from roomtone.engines.audio._card import precede; print('precedence', precede())"
"""

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.long)])
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    need_nspawn()
    with a_copy(installed(request.param)) as root:
        renew(root)
        etc = root / "etc"
        (etc / "roomtone/credentials/broker").write_text(SECRET)
        (etc / "roomtone/credentials/broker").chmod(0o600)
        configure(root, CONFIG)
        for name in SERVICES:
            (etc / f"systemd/system/{name}.service.d").mkdir()
        (etc / "systemd/system/roomtone.service.d/test.conf").write_text(DROP_IN)
        (etc / "systemd/system/roomtone-hub.service.d/test.conf").write_text("[Service]\nWatchdogSec=3\n")
        hub = etc / "systemd/system/roomtone-hub.service"
        hub.unlink(missing_ok=True)
        hub.symlink_to("/opt/roomtone/current/systemd/roomtone-hub.service")
        yield root


def configure(root: Path, config: dict[str, object]) -> None:
    (root / "etc/roomtone/config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def machine(root: Path) -> Iterator[Machine]:
    with booted(root) as machine:
        machine.until_active("roomtone")
        yield machine


def ask(machine: Machine, text: str) -> dict[str, object]:
    return dict(json.loads(machine.run("roomtone", "ask", "--json", text)))


def main_pid(machine: Machine, unit: str) -> str:
    return machine.unit(unit)["MainPID"]


def struck(machine: Machine, how: str) -> dict[str, dict[str, str]]:
    """Send a signal to both services at once, wait until both are there again, and return how they were before."""
    before = {}
    for name in SERVICES:
        machine.run("systemctl", "start", name)  # returns once it is ready
        before[name] = machine.unit(name)
        assert (before[name]["ActiveState"], before[name]["Type"]) == ("active", "notify")
    for unit in before.values():
        machine.run("sh", "-c", f"kill -{how} {unit['MainPID']}")
    for name, unit in before.items():
        after = machine.until_active(name, than=unit["InvocationID"])
        assert int(after["NRestarts"]) == int(unit["NRestarts"]) + 1
    return before


def test_services_that_are_killed_are_there_again(machine: Machine) -> None:
    struck(machine, "KILL")


def test_services_that_hang_are_begun_anew_and_say_where_they_hung(machine: Machine) -> None:
    for unit in struck(machine, "STOP").values():
        # By its number: what the journal reads once the next run has begun, it files under that one's invocation.
        said = [record["MESSAGE"] for record in machine.journal(f"_PID={unit['MainPID']}")]
        assert "Fatal Python error: Aborted" in said
        assert any("asyncio" in line for line in said), "the traceback says where"
    assert machine.ask("sh", "-c", "ls /var/lib/roomtone | grep core") == "", "no image of its memory on the card"


def test_the_status_of_a_service_says_how_it_stands(machine: Machine) -> None:
    machine.run("systemctl", "start", "roomtone-hub")
    assert machine.unit("roomtone-hub")["StatusText"].startswith("Without the broker: ")
    until(lambda: machine.unit("roomtone")["StatusText"] != "", "the room says how it stands")


def test_the_journal_finds_a_conversation_by_its_session_and_holds_nothing_of_what_was_said(machine: Machine) -> None:
    turn = ask(machine, "what time is it")
    assert turn["answered_by"] == "skill"

    def records() -> list[dict[str, str]]:
        return machine.journal(f"ROOMTONE_SESSION={turn['session']}", f"ROOMTONE_TURN={turn['turn']}")

    until(lambda: bool(records()), "the journal has the turn")
    record = records()[-1]
    assert (record["SYSLOG_IDENTIFIER"], record["PRIORITY"]) == ("roomtone", "6")
    assert record["ROOMTONE_TRACE"] == turn["trace"]
    assert record["_SYSTEMD_UNIT"] == "roomtone.service"
    whole = machine.run("journalctl", "--output=export", "--all")
    assert str(turn["said"]) not in whole
    assert SECRET not in whole


def test_the_room_reads_its_secrets_and_nobody_else_does(machine: Machine) -> None:
    said = [record["MESSAGE"] for record in machine.journal("_SYSTEMD_UNIT=roomtone.service")]
    assert not any("no credential" in line for line in said)
    pid = main_pid(machine, "roomtone")
    loaded = f"/proc/{pid}/root/run/credentials/roomtone.service/roomtone_broker"
    assert machine.run("cat", loaded) == SECRET
    as_who = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    assert machine.ask(*as_who, "cat", loaded, "/etc/roomtone/credentials/broker") == ""
    assert SECRET not in machine.run("sh", "-c", f"tr '\\0' '\\n' </proc/{pid}/environ")


def test_the_user_has_the_groups_of_the_hardware_and_its_thread_for_sound_may_run_before_all(
    machine: Machine,
) -> None:
    pid = main_pid(machine, "roomtone")
    groups = machine.run("sh", "-c", f"grep ^Groups: /proc/{pid}/status | cut -f2").split()
    names = {line.split(":")[2]: line.split(":")[0] for line in machine.run("getent", "group").splitlines()}
    assert {names[group] for group in groups} >= {"audio", "gpio", "spi", "i2c"}
    said = [record["MESSAGE"] for record in machine.journal("_SYSTEMD_UNIT=roomtone.service")]
    assert "precedence None" in said
    assert machine.unit("roomtone")["LimitRTPRIO"] == "20"


def test_what_root_types_is_done_in_the_state_of_the_service_and_belongs_to_it(machine: Machine) -> None:
    machine.run("systemctl", "stop", "roomtone")
    assert ask(machine, "set a pasta timer for two hours")["intent"] == "timer.set"
    assert machine.run("find", "/var/lib/roomtone", "!", "-user", "roomtone") == ""
    assert machine.run("find", "/root", "-name", "roomtone*") == ""


def test_it_ends_well_and_boots_without_a_sound_card_with_all_that_it_knew(root: Path, machine: Machine) -> None:
    assert machine.power_off() == 0
    configure(root, {**CONFIG, "audio": {"engine": "sounddevice"}})
    with booted(root) as again:
        unit = again.until_active("roomtone")
        assert unit["NRestarts"] == "0"
        assert "audio: " in unit["StatusText"], "it says what is missing"
        assert "pasta" in str(ask(again, "how much time is left on my timer")["said"])
        until(
            lambda: again.ask("systemctl", "is-system-running").strip() in ("running", "degraded"), "all has started"
        )
        failed = again.ask("systemctl", "list-units", "--failed", "--no-legend", "roomtone*")
        assert failed == ""
        assert again.power_off() == 0
