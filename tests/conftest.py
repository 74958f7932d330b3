"""What every test may use: event loops on a virtual clock that notice what a test leaves behind."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import hypothesis
import pytest
from hypothesis import HealthCheck

from broker import broker
from roomtone import config, settings
from roomtone.clock import run_skipping
from sound_card import server

__all__ = ["broker", "server"]

# How long an example takes says more of the machine than of Roomtone: `roomtone bench` measures speed.
hypothesis.settings.register_profile("roomtone", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis.settings.load_profile("roomtone")

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


async def leaving_nothing(main: Coroutine[Any, Any, T]) -> T:
    before = set(threading.enumerate())
    result = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), f"thread left behind: {thread.name}"
    return result


@pytest.fixture
def run() -> Run[Any]:
    """Run a coroutine on a clock on which only waiting and engines take time; fail on tasks or threads left."""
    return lambda main: run_skipping(leaving_nothing(main), counts_work=False)


@pytest.fixture
def run_in_real_time() -> Run[Any]:
    """Run a coroutine on the wall clock; fail on tasks or threads left behind."""
    return lambda main: asyncio.run(leaving_nothing(main))


@pytest.fixture(autouse=True)
def _log_of_ones_own() -> Iterator[None]:
    """Take away what a test sent its log to: where that is closed, every later line would be told of as an error."""
    root = logging.getLogger()
    before, level = set(root.handlers), root.level
    yield
    for handler in set(root.handlers) - before:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_household_state(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests away from the state, config and sockets of whoever runs them."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.delenv("ROOMTONE_CONFIG", raising=False)
    monkeypatch.setattr(settings, "SERVICE_STATE", home / "service")
    monkeypatch.setattr(config, "SYSTEM_FILE", home / "etc" / "config.yaml")
