"""Home Assistant is let into the house: its files, what it is told, and what becomes of files that are lost."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from roomtone.cli import main
from roomtone.hub.setting_up import Setup, own_authority, set_up

SETUP = Setup(home="ours", url="mqtts://hub.local:8883")


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A machine that is set up as the hub."""
    set_up(tmp_path / "state", SETUP, ["hub.local"])
    return tmp_path / "state"


def let_in(hub: Path, *options: str) -> int:
    return main(["hub", "home-assistant", "--to", str(hub.parent / "files"), "--state-dir", str(hub), *options])


def cert(hub: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((hub.parent / "files" / "cert.pem").read_bytes())


def test_home_assistant_gets_its_files_and_is_told_where_they_go(
    hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert let_in(hub) == 0
    said = capsys.readouterr().out
    assert "Broker: hub.local   Port: 8883" in said
    assert cert(hub).subject.rfc4514_string() == "CN=homeassistant"
    cert(hub).verify_directly_issued_by(own_authority(hub).ca)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        file = hub.parent / "files" / name
        assert str(file) in said
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_who_makes_them_again_shuts_the_old_ones_out(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    let_in(hub)
    lost = cert(hub).serial_number
    capsys.readouterr()
    assert let_in(hub, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["broker"], told["port"]) == ("hub.local", 8883)
    assert "systemctl reload mosquitto" in told["commands"][0]
    lists = x509.load_pem_x509_crl((hub / "hub" / "mosquitto" / "crl.pem").read_bytes())
    assert lists.get_revoked_certificate_by_serial_number(lost)
    assert not lists.get_revoked_certificate_by_serial_number(cert(hub).serial_number)
    acl = (hub / "hub" / "mosquitto" / "acl").read_text()
    assert "user homeassistant\ntopic deny" not in acl, "the new one is let in"


def test_a_machine_that_is_no_hub_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert let_in(tmp_path / "state") == 1
    assert "roomtone hub setup" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_costs_no_certificate(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    let_in(hub)
    (hub.parent / "file").write_text("")
    capsys.readouterr()
    blocked = str(hub.parent / "file" / "inside")
    assert main(["hub", "home-assistant", "--to", blocked, "--state-dir", str(hub)]) == 1
    assert "--to" in capsys.readouterr().err
    assert "homeassistant" in own_authority(hub).issued()
