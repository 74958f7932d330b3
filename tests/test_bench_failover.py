"""What the bench says of a dying model is measured, not assumed."""

from __future__ import annotations

import pytest

from conftest import Run
from roomtone.bench import Figure, failover

pytest.importorskip("openai")


def test_deaths_are_counted_and_the_time_they_cost(
    run_in_real_time: Run[list[Figure]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "DEATHS", 4)
    monkeypatch.setattr(failover, "ROUNDS", 2)
    figures = {figure.name: figure for figure in run_in_real_time(failover.measure())}
    assert (figures["deaths_answered"].value, figures["deaths_answered"].n) == (4, 4)
    lost = figures["failover_ms_p50"].value
    assert lost is not None
    assert lost > -1000 * failover.FIRST_PIECE_S
