"""A real broker for tests: Mosquitto as it is shipped, with its certificates and access list, on free ports."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from roomtone.hub.own_broker import HOME, MOSQUITTO
from roomtone.hub.own_broker import OwnBroker as Broker

__all__ = ["HOME", "MOSQUITTO", "Broker", "broker", "needs_mosquitto"]


def needs_mosquitto() -> None:
    """Skip a test where there is no Mosquitto, unless ROOMTONE_REQUIRE names it."""
    if MOSQUITTO is None and "mosquitto" not in os.environ.get("ROOMTONE_REQUIRE", ""):
        pytest.skip("no mosquitto here; run: sudo apt install mosquitto")


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A running broker, as it is shipped."""
    needs_mosquitto()
    made = Broker()
    try:
        made.start()
        yield made
    finally:
        made.close()
