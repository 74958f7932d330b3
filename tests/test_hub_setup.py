"""A machine becomes the hub: its certificates, the broker's files, and the commands that let in and shut out."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import socket
import stat
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from broker import Broker
from conftest import Run
from roomtone import enrolling
from roomtone.cli import main
from roomtone.commands import hub_enroll
from roomtone.core.errors import HubGone, RegistrationError, UsageError
from roomtone.core.wire import Topics
from roomtone.credentials import expires
from roomtone.discovery import Found
from roomtone.enrolling import known, membership, split_address
from roomtone.flow import beside
from roomtone.hub import mosquitto
from roomtone.hub.authority import CA_LIVES, make_authority, open_authority
from roomtone.hub.database import open_database
from roomtone.hub.enrolment import Terms, enroll
from roomtone.hub.folder import database_path
from roomtone.hub.mosquitto import acl
from roomtone.hub.serve import await_setup
from roomtone.hub.setting_up import (
    FILES,
    Setup,
    commands,
    own_authority,
    own_link,
    refresh_lists,
    set_up,
    share_group,
)
from roomtone.settings import Device, Hub, Settings

SETUP = Setup(home="ours", url="mqtts://hub.local:8883")


# ----------------------------------------------------------------------------------------- the authority


def test_the_key_of_the_house_is_its_owners_alone(tmp_path: Path) -> None:
    set_up(tmp_path / "state", SETUP, ["hub.local"])
    for path in (tmp_path / "state").rglob("*"):
        if path.name != "lock":
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_authority_is_the_same_when_it_is_set_up_again_and_its_certificates_are_new(tmp_path: Path) -> None:
    set_up(tmp_path, SETUP, ["hub.local"])
    files = [tmp_path / "hub" / name for name in ("authority/ca.pem", "process/key.pem", "process/cert.pem")]
    before = [file.read_bytes() for file in files]
    set_up(tmp_path, SETUP, ["hub.local", "nas.local"])
    after = [file.read_bytes() for file in files]
    assert before[:2] == after[:2]
    assert before[2] != after[2]


def test_certificates_are_valid_for_a_machine_that_does_not_know_the_time_yet(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "ours")
    _, cert = authority.pair("kitchen")
    for one in (authority.ca, x509.load_pem_x509_certificate(cert)):
        assert one.not_valid_before_utc == datetime(2020, 1, 1, tzinfo=UTC)


def test_no_certificate_outlives_the_authority(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "ours")
    _, cert = authority.pair("kitchen", until=datetime.now(UTC) + 2 * CA_LIVES)
    (tmp_path / "cert.pem").write_bytes(cert)
    assert expires(tmp_path / "cert.pem") == authority.ca.not_valid_after_utc


def test_what_was_revoked_stays_revoked(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "ours")
    for name in ("kitchen", "bath"):
        authority.pair(name)
        assert authority.revoke(name) == 1
    number = authority.number
    assert authority.revoke("kitchen") == 0
    assert authority.number == number, (
        "who revokes again, once the broker has read the list, is not told to wait anew"
    )
    again = open_authority(tmp_path)
    assert again.shut_out() == {"kitchen", "bath"}
    assert len(list(x509.load_pem_x509_crl(again.crl_pem))) == 2


def test_a_revocation_that_a_power_cut_broke_off_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path, "ours")
    authority.pair("kitchen")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", cut)
        with pytest.raises(KeyboardInterrupt):
            authority.revoke("kitchen")
    assert authority.shut_out() == set()
    authority.revoke("kitchen")
    assert authority.shut_out() == {"kitchen"}
    assert len(list(x509.load_pem_x509_crl(authority.crl_pem))) == 1


@pytest.mark.parametrize("name", ["", "Kitchen", "a/b", "a+b", "#", "x" * 65, "a\n", "ä"])
def test_no_certificate_is_made_for_a_name_that_could_be_more_than_one(name: str, tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "ours")
    with pytest.raises(RegistrationError, match="is no device's id"):
        authority.issue(b"", name)


@pytest.mark.parametrize("csr", [b"", b"hello", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"\xff" * 100])
def test_a_request_that_cannot_be_read_is_refused(csr: bytes, tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="cannot be read"):
        make_authority(tmp_path, "ours").issue(csr, "kitchen")


def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, other = make_authority(tmp_path / "1", "ours"), make_authority(tmp_path / "2", "ours")
    (one.folder / "ca.key").write_bytes((other.folder / "ca.key").read_bytes())
    with pytest.raises(RegistrationError, match=r"not the key of ca\.pem"):
        open_authority(one.folder)


# --------------------------------------------------------------------------------------- the hub's own way


def test_the_hub_takes_what_was_set_up_unless_the_household_says_otherwise(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="run: roomtone hub setup"):
        own_link(Hub(), tmp_path)
    set_up(tmp_path, SETUP, ["hub.local"])
    assert own_link(Hub(), tmp_path).url == "mqtts://localhost:8884"
    own = Hub(url="mqtts://cluster:8883", username="hub", home="ours")
    assert own_link(own, tmp_path) == own


def test_only_who_has_the_hubs_key_knows_the_group_of_the_hubs(tmp_path: Path) -> None:
    set_up(tmp_path / "a", SETUP, [])
    set_up(tmp_path / "b", SETUP, [])
    groups = [share_group(own_link(Hub(), tmp_path / state)) for state in ("a", "a", "b")]
    assert groups[0] == groups[1] != groups[2]
    assert "/" not in groups[0]


def test_a_name_that_is_shut_out_is_denied_everything_before_all_else() -> None:
    lines = acl("ours", {"kitchen"}, 7).splitlines()
    at = lines.index("user kitchen")
    assert lines[at + 1] == "topic deny #"
    assert f"topic deny {Topics('ours').hub('lists/7')}" in lines


def test_the_unit_that_feeds_the_broker_names_what_setup_writes() -> None:
    unit = (Path(__file__).parent.parent / "systemd" / "roomtone-broker.service").read_text("utf-8")
    [names] = re.findall(r"for name in (.*); do", unit)
    assert set(names.split()) == set(FILES)
    assert re.search(r"head -c 1M (\S+)/\$\$name", unit).group(1) in commands(Path("/var/lib/roomtone"), SETUP)[1]


def test_the_list_that_systemd_watches_is_the_last_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    set_up(tmp_path, SETUP, [])
    monkeypatch.setattr(mosquitto, "write_durably", lambda path, _: written.append(path.name))
    refresh_lists(tmp_path)
    unit = (Path(__file__).parent.parent / "systemd" / "roomtone-broker.path").read_text("utf-8")
    assert f"PathChanged=/var/lib/roomtone/hub/mosquitto/{written[-1]}\n" in unit


# -------------------------------------------------------------------------------------------- commands


def hub(state: Path, *words: str) -> int:
    return main(["hub", *words, "--state-dir", str(state)])


def test_setup_prints_what_puts_the_files_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub(tmp_path, "setup", "--host", "nas.local", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["url"] == "mqtts://nas.local:8883"
    text = "\n".join(told["commands"])
    assert "systemctl restart mosquitto" in text
    for name in ("ca.pem", "server.pem", "server.key", "crl.pem", "acl", "roomtone.conf"):
        assert str(tmp_path / "hub" / "mosquitto" / name) in text
        assert (tmp_path / "hub" / "mosquitto" / name).is_file()


@pytest.mark.parametrize("words", [("enroll",), ("revoke", "kitchen")])
def test_a_machine_that_is_no_hub_says_how_it_becomes_one(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hub(tmp_path, *words) == 1
    assert "is not set up as a hub; run: roomtone hub setup" in capsys.readouterr().err


@dataclass
class DoorAtHub:
    """``roomtone hub enroll``, on a thread: the code it shows, its port, and its exit code in the end."""

    code: str
    port: int
    ended: Future[int]


@contextmanager
def enrolling_at(state: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Iterator[DoorAtHub]:
    told: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    monkeypatch.setattr(hub_enroll, "_tell_code", lambda _, code, port: told.put((code, port)))
    monkeypatch.setattr(enrolling, "announcing_door", lambda *_: asyncio.Event().wait())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(hub, state, "enroll", "--enroll-port", str(port), *words)
        yield DoorAtHub(*told.get(timeout=10), ended)


def test_a_device_joins_by_the_code_that_the_hub_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub(tmp_path / "hub", "setup", "--host", "nas.local")
    with enrolling_at(tmp_path / "hub", monkeypatch) as door:
        assert hub(tmp_path / "room", "join", door.code, "--hub", f"127.0.0.1:{door.port}") == 0
        assert door.ended.result(10) == 0
    said = capsys.readouterr().out
    assert "is now a device of the home 'home'. Start Roomtone anew" in said
    assert "is now a device of the house, in the room" in said
    assert known(Hub(), tmp_path / "room").url == "mqtts://nas.local:8883"


def test_a_device_joins_by_the_code_that_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub(tmp_path / "hub", "setup")
    spoken: list[str] = []
    monkeypatch.setattr(hub_enroll, "new_code", lambda: "481233")
    monkeypatch.setattr("roomtone.asking.ask", lambda _, text, **__: spoken.append(text))
    with enrolling_at(tmp_path / "hub", monkeypatch, "--code", "481-233") as door:
        assert door.code == "481233"
        assert hub(tmp_path / "room", "join", "--hub", f"127.0.0.1:{door.port}") == 0
        assert door.ended.result(10) == 0
    assert spoken == ["My code is 4 8 1, 2 3 3. Once more: 4 8 1, 2 3 3."]
    assert "roomtone hub enroll --code 481233" in capsys.readouterr().out


def test_a_device_that_has_said_its_code_waits_until_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(tmp_path / "hub", "setup")
    monkeypatch.setattr(hub_enroll, "new_code", lambda: "481233")
    monkeypatch.setattr(hub_enroll, "TRY_AGAIN_S", 0.01)
    monkeypatch.setattr("roomtone.asking.ask", lambda *_, **__: None)
    looked: list[int] = []
    with enrolling_at(tmp_path / "hub", monkeypatch, "--code", "481233") as door:

        async def find_door() -> Found:
            looked.append(1)
            if len(looked) < 3:
                raise HubGone("no hub that enrolls was found")
            return Found("127.0.0.1", door.port, "")

        monkeypatch.setattr(hub_enroll, "find_door", find_door)
        assert hub(tmp_path / "room", "join") == 0
    assert len(looked) == 3


def test_what_was_never_enrolled_cannot_be_revoked_nor_can_the_hub_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub(tmp_path, "setup")
    own_authority(tmp_path).pair("kitchen")
    for name in ("bath", "hub", "broker"):
        assert hub(tmp_path, "revoke", name) == 1
        assert f"no device called {name} was enrolled; enrolled are: kitchen" in capsys.readouterr().err


def test_a_revocation_that_the_broker_cannot_be_told_is_written_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub(tmp_path, "setup", "--hub-port", "1")
    own_authority(tmp_path).pair("kitchen")
    assert hub(tmp_path, "revoke", "kitchen") == 1
    error = capsys.readouterr().err
    assert "the new lists are written, but no broker listens" in error
    assert own_authority(tmp_path).shut_out() == {"kitchen"}
    assert "user kitchen\ntopic deny #" in (tmp_path / "hub" / "mosquitto" / "acl").read_text()


def test_revoke_shuts_a_device_out_of_broker_and_registry(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str], run_in_real_time: Run[str]
) -> None:
    state = a_hub_of(broker, tmp_path)
    run_in_real_time(_know_device(state, "kitchen"))
    broker.authority.pair("kitchen")
    with reloading(broker):
        assert hub(state, "revoke", "kitchen") == 0
    assert "kitchen is shut out" in capsys.readouterr().out
    assert run_in_real_time(_standing(state, "kitchen")) == "revoked"


def test_a_broker_that_has_not_read_the_lists_is_told_of(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roomtone.hub.shutting_out.READ_S", 0.3)
    state = a_hub_of(broker, tmp_path)
    broker.authority.pair("kitchen")
    assert hub(state, "revoke", "kitchen") == 1
    assert "the broker has not read yet who is shut out; run: sudo systemctl reload" in capsys.readouterr().err


def a_hub_of(broker: Broker, state: Path) -> Path:
    """Set a hub up whose authority and broker's files are those of a broker that runs."""
    folder = state / "hub"
    folder.mkdir()
    (folder / "authority").symlink_to(broker.folder / "authority")
    (folder / "mosquitto").symlink_to(broker.folder / "mosquitto")
    (folder / "process").mkdir()
    own = broker.hub("hub")
    for name, file in (("key.pem", own.key), ("cert.pem", own.cert)):
        assert file is not None
        (folder / "process" / name).symlink_to(file)
    setup = Setup(home="ours", url="mqtts://localhost:1", hub_port=broker.hub_port, installed=folder / "mosquitto")
    (folder / "setup.json").write_text(setup.model_dump_json())
    return state


@contextmanager
def reloading(broker: Broker) -> Iterator[None]:
    """Let the broker read its lists as soon as they are written, as systemd's path unit does."""
    monkey = pytest.MonkeyPatch()
    from roomtone.hub import setting_up

    refresh = setting_up.refresh_lists

    def refresh_and_reload(state: Path) -> str:
        marker = refresh(state)
        broker.reload()
        return marker

    monkey.setattr(setting_up, "refresh_lists", refresh_and_reload)
    try:
        yield
    finally:
        monkey.undo()


async def _know_device(state: Path, id_: str) -> str:
    async with open_database(database_path(state)) as database:
        await database.do(
            lambda db: db.execute(
                "INSERT INTO devices (id, standing, capabilities, personas) VALUES (?, 'active', '[]', '[]')", (id_,)
            )
        )
    return ""


async def _standing(state: Path, id_: str) -> str:
    async with open_database(database_path(state)) as database:
        query = "SELECT standing FROM devices WHERE id = ?"
        return str(await database.read(lambda db: db.execute(query, (id_,)).fetchone()[0]))


# ---------------------------------------------------------------------------- a room with a code in its config


@contextmanager
def a_door_at(monkeypatch: pytest.MonkeyPatch, port: list[int], absences: int) -> Iterator[None]:
    """Let the network have a hub that enrolls, after it was looked for in vain so many times."""
    looked: list[int] = []

    async def find_door() -> Found:
        looked.append(1)
        if len(looked) <= absences:
            raise HubGone("no hub that enrolls was found")
        return Found("127.0.0.1", port[0], "")

    with monkeypatch.context() as patched:
        patched.setattr(enrolling, "find_door", find_door)
        patched.setattr(enrolling, "FIRST_S", 0.01)
        yield


def test_a_room_with_a_code_joins_by_itself_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_in_real_time: Run[None]
) -> None:
    authority = make_authority(tmp_path / "authority", "ours")
    settings = Settings(
        device=Device(id="kitchen"), state_dir=tmp_path / "room", hub=Hub.model_validate({"code": "481 233"})
    )
    port: list[int] = []

    async def scene() -> None:
        terms = Terms("ours", SETUP.url, "481233")
        opened = asyncio.Event()

        def is_open(at: int) -> None:
            port.append(at)
            opened.set()

        door: Coroutine[Any, Any, Any] = enroll(authority, terms, host="127.0.0.1", port=0, opened=is_open)
        async with beside(door, "door"):
            await opened.wait()
            with a_door_at(monkeypatch, port, absences=2):
                assert (await membership(settings)).url == SETUP.url
        assert (await membership(settings)).url == SETUP.url  # without a door

    run_in_real_time(scene())


def test_a_room_without_a_house_or_a_code_has_none(tmp_path: Path, run: Run[None]) -> None:
    async def scene() -> None:
        assert (await membership(Settings(state_dir=tmp_path))).url is None

    run(scene())


@pytest.mark.parametrize("code", [12345, "12345", True, "abcdef", 1.5, "1234567890"])
def test_what_is_no_code_is_a_mistake_of_the_configuration(code: object) -> None:
    with pytest.raises(ValueError, match="is no code of 6 to 8 digits"):
        Hub.model_validate({"code": code})


def test_a_code_is_read_as_a_number_too_and_never_shown() -> None:
    hub = Hub.model_validate({"code": 481233})
    assert hub.code is not None
    assert hub.code.get_secret_value() == "481233"
    assert "481233" not in repr(hub)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hub.local", ("hub.local", 8882)),
        ("192.168.1.5:99", ("192.168.1.5", 99)),
        ("[fe80::1]:99", ("fe80::1", 99)),
    ],
)
def test_where_the_hub_is_may_be_said(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", ":99", "hub.local:port", "hub.local:99999", "mqtts://hub.local"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not where a hub can be"):
        split_address(text)


def test_the_last_days_of_a_certificate_can_be_told(tmp_path: Path) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    _, cert = make_authority(tmp_path, "ours").pair("kitchen", until=end)
    (tmp_path / "cert.pem").write_bytes(cert)
    assert expires(tmp_path / "cert.pem") == end


# ------------------------------------------------------------------------------------------- as a service


def test_a_hub_that_is_enabled_before_it_is_set_up_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        told: list[bytes] = []

        def time_goes_by(_: float) -> None:
            told.append(systemd.recv(4096))
            if len(told) == 2:
                set_up(tmp_path / "state", SETUP, ["hub.local"])

        monkeypatch.setattr("roomtone.hub.serve.time.sleep", time_goes_by)
        settings = Settings(state_dir=tmp_path / "state")
        await_setup(settings, {"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert b"READY=1" in told[0]
    assert b"run: roomtone hub setup" in told[0]
    assert told[1:] == [b"WATCHDOG=1"]


def test_by_hand_nothing_is_waited_for(tmp_path: Path) -> None:
    await_setup(Settings(state_dir=tmp_path), {})
