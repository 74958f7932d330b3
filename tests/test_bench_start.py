"""``roomtone bench --only start``: from the start of the daemon until it says that it is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from roomtone.bench import start


def test_a_daemon_is_started_until_it_says_that_it_is_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start, "STARTS", 1)
    monkeypatch.setattr(start, "CACHES", tmp_path / "not" / "for" / "this user")
    warm, middle, most = start.measure()
    assert warm.value is not None
    assert 0.1 < warm.value < start.BOUND_S
    assert (middle.value, middle.n, most.value) == (None, 0, None), "nothing is called cold that was not"
