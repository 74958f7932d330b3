"""On a real systemd: a room that runs is backed up, looked through at night, and restored over itself."""

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
STATE = "/var/lib/roomtone"


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.long)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    need_nspawn()
    with a_copy(installed(request.param)) as root:
        renew(root)
        etc = root / "etc"
        (etc / "roomtone/config.yaml").write_text(yaml.safe_dump(CONFIG))
        (etc / "roomtone/credentials/broker").write_text("xylophone-secret")
        for unit in Path("systemd").glob("roomtone-maintenance.*"):
            link = etc / "systemd/system" / unit.name
            link.unlink(missing_ok=True)
            link.symlink_to(f"/opt/roomtone/current/systemd/{unit.name}")
        with booted(root) as machine:
            machine.until_active("roomtone")
            yield machine
            assert machine.power_off() == 0


def ask(machine: Machine, text: str) -> str:
    return str(json.loads(machine.run("roomtone", "ask", "--json", text))["said"])


def strangers(machine: Machine) -> str:
    """List what in the state is not its user's."""
    return machine.ask("find", STATE, "-not", "-user", "roomtone")


def test_the_nights_work_is_done_in_its_sandbox_beside_the_room(machine: Machine) -> None:
    ask(machine, "set a pasta timer for two hours")
    machine.run("systemctl", "start", "roomtone-maintenance.service")
    assert machine.unit("roomtone-maintenance")["Result"] == "success"
    outcome = json.loads(machine.run("cat", f"{STATE}/maintenance.json"))
    assert outcome["ok"], outcome["lines"]
    assert [line["what"] for line in outcome["lines"]] == ["store", "checkpoint", "prune", "backup"]
    assert machine.run("sh", "-c", f"tar tzf {STATE}/backups/*.tar.gz").splitlines() == [
        "manifest.json",
        "state/roomtone.db",
        "state/config.last-good.yaml",
        "config/config.yaml",
    ]
    assert strangers(machine) == ""
    first = outcome["at"]
    machine.run("systemctl", "start", "roomtone-maintenance.service")
    assert json.loads(machine.run("cat", f"{STATE}/maintenance.json"))["at"] == first, "once a night"
    assert machine.ask("systemctl", "is-enabled", "roomtone-maintenance.timer").strip() in ("enabled", "linked")


def test_root_may_do_it_by_hand_and_leaves_nothing_of_its_own(machine: Machine) -> None:
    assert "store: roomtone.db is whole" in machine.run("roomtone", "maintain")
    assert strangers(machine) == ""


def test_a_room_that_runs_is_backed_up_and_restored_in_one_step_each(machine: Machine) -> None:
    ask(machine, "set an egg timer for three hours")
    machine.run("roomtone", "backup", "--with-secrets", "/root/whole.tar.gz")
    ask(machine, "cancel the egg timer")
    machine.run("sh", "-c", "rm /etc/roomtone/credentials/broker; echo '# changed' >> /etc/roomtone/config.yaml")
    before = machine.unit("roomtone")["InvocationID"]
    said = machine.run("roomtone", "restore", "/root/whole.tar.gz")
    assert "Restored as it was" in said
    assert "what was there is kept" in said
    machine.until_active("roomtone", than=before)
    assert "egg" in ask(machine, "how long is left on the egg timer")
    assert strangers(machine) == ""
    assert machine.run("stat", "-c", "%U:%G %a", "/etc/roomtone/config.yaml").strip() == "root:roomtone 640"
    assert machine.run("stat", "-c", "%U %a", "/etc/roomtone/credentials/broker").strip() == "root 600"
    assert "# changed" not in machine.run("cat", "/etc/roomtone/config.yaml")


def test_a_backup_that_is_damaged_does_not_even_stop_the_room(machine: Machine) -> None:
    before = machine.unit("roomtone")["InvocationID"]
    machine.run("sh", "-c", "head -c 3000 /root/whole.tar.gz > /root/half.tar.gz")
    assert machine.ask("sh", "-c", "roomtone restore /root/half.tar.gz; echo $?").strip().endswith("1")
    assert machine.unit("roomtone")["InvocationID"] == before
    until(lambda: "egg" in ask(machine, "how long is left on the egg timer"), "the room answers")
