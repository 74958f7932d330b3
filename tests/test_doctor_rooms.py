"""What the doctor says of the way to the other rooms."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broker import Broker
from conftest import Run
from roomtone.core.wire import Presence, Topics
from roomtone.credentials import expires
from roomtone.doctor.findings import Finding
from roomtone.doctor.rooms import certificate, look
from roomtone.flow import beside
from roomtone.link import Link
from roomtone.link.trouble import JOIN
from roomtone.settings import Settings

TOPICS = Topics("ours")


def settings(tmp_path: Path, **hub: Any) -> Settings:
    return Settings.model_validate({"device": {"id": "kitchen-1"}, "state_dir": tmp_path, "hub": hub})


def of(broker: Broker, tmp_path: Path, device: str = "kitchen-1") -> Settings:
    return settings(tmp_path, **broker.hub(device).model_dump(exclude_none=True))


def told(findings: list[Finding], level: str) -> list[str]:
    return [f"{finding.said}; {finding.mend or ''}" for finding in findings if finding.level == level]


async def there(link: Link) -> None:
    """Wait until a link is up."""
    async with asyncio.timeout(10):
        while not link.up:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.02)


def kitchen(broker: Broker) -> Link:
    presence = Presence(id="kitchen-1", online=True, room="kitchen")
    own = TOPICS.device("kitchen-1", "presence")
    return Link(broker.hub("kitchen-1"), "kitchen-1", lambda: presence, own)


def test_a_room_on_its_own_is_told_nothing_of(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        assert await look(settings(tmp_path), running=False) == []

    run(main())


def test_a_room_whose_id_was_changed_since_it_joined_is_told_of(
    run: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        house, joined = broker.hub("attic-1"), tmp_path / "hub"
        joined.mkdir()
        for kept in (house.ca, house.cert, house.key):
            assert kept is not None
            (joined / kept.name).write_bytes(kept.read_bytes())
        found = await look(settings(tmp_path, url=house.url, home=house.home), running=False)
        assert told(found, "warn") == [
            "this room's certificate is for attic-1, and its device.id is kitchen-1; "
            "set device.id: attic-1, or at the hub, run: roomtone hub enroll"
        ]

    run(main())


def test_a_room_that_waits_to_be_let_in_is_told_of(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        [finding] = await look(settings(tmp_path, code="123456"), running=False)
        assert "roomtone hub enroll" in (finding.mend or "")

    run(main())


def test_a_house_that_is_as_it_should_be(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        hub = Link(broker.hub("hub"), "hub", lambda: Presence(id="hub", online=True), TOPICS.hub())
        async with beside(hub.run(), "hub"):
            await there(hub)
            found = await look(of(broker, tmp_path), running=False)
        assert told(found, "warn") == []
        ok = " ".join(told(found, "ok"))
        assert "good until" in ok
        assert "lets kitchen-1 in" in ok
        assert "the hub is there" in ok

    run_in_real_time(main())


def test_a_hub_that_is_off_is_told_of(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        [line] = told(await look(of(broker, tmp_path), running=False), "warn")
        assert "the hub is off" in line
        assert "roomtone-hub" in line

    run_in_real_time(main())


def test_another_device_of_the_same_id_is_told_of(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        other = kitchen(broker)
        async with beside(other.run(), "other"):
            await there(other)
            alone = told(await look(of(broker, tmp_path), running=False), "warn")
            assert any("device.id" in line for line in alone)

    run_in_real_time(main())


def test_the_daemon_keeps_its_connection(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        daemon = kitchen(broker)
        async with beside(daemon.run(), "daemon"):
            await there(daemon)
            found = await look(of(broker, tmp_path), running=True)
            assert [finding.level for finding in found] == ["ok"]
            assert "good until" in found[0].said
            assert broker.log.count("New client connected") == 1

    run_in_real_time(main())


def test_a_broker_that_is_off_is_told_of(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        wanted = of(broker, tmp_path)
        broker.kill()
        [line] = told(await look(wanted, running=False), "warn")
        assert "no broker listens" in line

    run_in_real_time(main())


def test_a_certificate_of_another_house_is_told_of(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        foreign = Broker(tmp_path / "other").hub("kitchen-1")
        mine = broker.hub("kitchen-1")
        mixed = {"url": mine.url, "home": mine.home, "ca": mine.ca, "cert": foreign.cert, "key": foreign.key}
        [line] = told(await look(settings(tmp_path, **mixed), running=False), "warn")
        assert "roomtone hub join" in line

    run_in_real_time(main())


def test_a_certificate_that_ends_is_told_of_in_time(broker: Broker, tmp_path: Path) -> None:
    cert = broker.hub("kitchen-1").cert
    assert cert is not None
    now = datetime.now(UTC)
    soon = expires(cert) - timedelta(days=20)
    levels = [[finding.level for finding in certificate(cert, at)] for at in (now, soon, now + timedelta(days=9999))]
    assert levels == [["ok"], ["warn"], ["warn"]]
    garbage = tmp_path / "cert.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----")
    [finding] = certificate(garbage, now)
    assert (finding.level, finding.mend) == ("warn", JOIN)
    assert not list(certificate(tmp_path / "none.pem", now))
