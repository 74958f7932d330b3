"""Which room answers a call that several heard: claims in, who stands down out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone.core.arbitration import KEPT_S, MOST, SAME_S, Arbiter, Kind, Standing, nearness

WAKE, SPEECH, ENGAGED, INTERRUPTION = Kind.WAKE, Kind.SPEECH, Kind.ENGAGED, Kind.INTERRUPTION
CLAIMED, WON, LOST = Standing.CLAIMED, Standing.WON, Standing.LOST


def test_whose_claim_comes_back_first_answers_and_stays_the_one() -> None:
    arbiter = Arbiter()
    assert arbiter.hear(1, WAKE, 10.0) is CLAIMED
    assert arbiter.win(1)
    assert arbiter.lose(WAKE, 10.1, "kitchen") == []
    assert arbiter.standing(1) is WON


def test_who_sees_another_claim_before_its_own_stands_down_once() -> None:
    arbiter = Arbiter()
    arbiter.hear(1, WAKE, 10.0)
    assert arbiter.lose(WAKE, 9.8, "kitchen") == [1]
    assert not arbiter.win(1)
    assert arbiter.lose(WAKE, 9.9, "hall") == []
    assert (arbiter.standing(1), arbiter.lost_to(1)) == (LOST, "kitchen")


def test_who_hears_later_than_others_claimed_does_not_claim() -> None:
    arbiter = Arbiter()
    assert arbiter.lose(WAKE, 9.8, "kitchen") == []
    assert arbiter.hear(1, WAKE, 10.0) is LOST
    assert arbiter.lost_to(1) == "kitchen"


@pytest.mark.parametrize(
    ("apart", "standing"), [(0.0, LOST), (SAME_S - 0.01, LOST), (SAME_S + 0.01, CLAIMED), (5.0, CLAIMED)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_claims_of_other_moments_are_about_other_calls(apart: float, standing: Standing, sign: int) -> None:
    before, after = Arbiter(), Arbiter()
    before.lose(WAKE, 10.0 + sign * apart, "kitchen")
    assert before.hear(1, WAKE, 10.0) is standing
    after.hear(1, WAKE, 10.0)
    after.lose(WAKE, 10.0 + sign * apart, "kitchen")
    assert after.standing(1) is standing


@pytest.mark.parametrize(
    ("own", "other", "taken_away"),
    [
        *((SPEECH, each, True) for each in (ENGAGED, WAKE, INTERRUPTION)),
        *((WAKE, each, False) for each in (SPEECH, ENGAGED)),
        *((WAKE, INTERRUPTION, True), (INTERRUPTION, WAKE, False), (INTERRUPTION, SPEECH, False)),
        *((each, each, False) for each in (SPEECH, WAKE, INTERRUPTION)),
    ],
)
def test_what_is_won_is_lost_only_to_a_higher_rank(own: Kind, other: Kind, taken_away: bool) -> None:
    arbiter = Arbiter()
    arbiter.hear(1, own, 10.0)
    arbiter.win(1)
    assert (arbiter.lose(other, 10.0, "kitchen") == [1]) is taken_away


def test_who_is_heard_clearly_louder_is_nearest_and_takes_the_call_from_who_was_quicker() -> None:
    quick, near = Arbiter(), Arbiter()
    quick.hear(1, WAKE, 10.0, near=nearness(-41.0))
    quick.win(1)
    assert near.lose(WAKE, 10.0, "quick", nearness(-41.0)) == []
    assert near.hear(1, WAKE, 10.1, near=nearness(-29.0)) is CLAIMED
    assert quick.lose(WAKE, 10.1, "near", nearness(-29.0)) == [1]
    assert near.win(1)


def test_hardly_louder_is_not_nearer() -> None:
    arbiter = Arbiter()
    arbiter.lose(WAKE, 10.0, "quick", nearness(-32.0))
    assert arbiter.hear(1, WAKE, 10.1, near=nearness(-31.0)) is LOST
    assert nearness(None) < nearness(-100.0)


def test_a_lower_rank_neither_keeps_nor_takes_away_a_claim_that_is_under_way() -> None:
    arbiter = Arbiter()
    arbiter.lose(WAKE, 10.0, "kitchen")
    assert arbiter.hear(1, INTERRUPTION, 10.0) is CLAIMED
    assert arbiter.lose(WAKE, 10.1, "hall") == []
    assert arbiter.win(1)


def test_the_word_that_a_listening_room_heard_begin_belongs_to_the_room_that_was_called() -> None:
    """A word takes up to a second: of whoever speaks to a listening room, others hear the word's end later."""
    listening = Arbiter()
    listening.hear(1, SPEECH, 10.0)
    listening.win(1)
    assert listening.lose(WAKE, 11.2, "kitchen") == [1]
    called = Arbiter()
    called.lose(SPEECH, 10.0, "kitchen")
    assert called.hear(1, WAKE, 11.2) is CLAIMED


def test_a_room_that_cannot_serve_has_lost_and_knows_to_whom_if_anybody_claimed() -> None:
    arbiter = Arbiter()
    assert arbiter.hear(1, WAKE, 10.0, serves=False) is LOST
    assert arbiter.lost_to(1) == ""
    assert not arbiter.win(1)


def test_what_is_over_is_forgotten() -> None:
    arbiter = Arbiter()
    arbiter.hear(1, WAKE, 10.0)
    arbiter.hear(2, WAKE, 10.0 + KEPT_S + 0.1)
    assert (arbiter.standing(1), arbiter.standing(2), arbiter.lost_to(1)) == (None, CLAIMED, "")
    assert not arbiter.win(1)
    for moment in range(3 * MOST):
        arbiter.lose(WAKE, 30.0 + moment / 1000, "flood")
    assert len(arbiter._others) <= MOST


# ---------------------------------------------------------------------------------------- many rooms


@dataclass
class House:
    """Rooms that hear one call, each at its own moment, and a broker that keeps order; nobody's clock agrees."""

    heard: dict[int, float]
    kinds: dict[int, Kind]
    up_s: list[float]
    down_s: list[float]
    clocks: list[float]
    near: list[int] = field(default_factory=lambda: [0] * 9)
    events: list[tuple[float, int, str, int]] = field(default_factory=list)
    arbiters: dict[int, Arbiter] = field(default_factory=dict)

    def settle(self) -> list[int]:
        """Let every message arrive, and return which rooms answer."""
        self.arbiters = {room: Arbiter() for room in self.heard}
        queue: list[tuple[float, int, str, int]] = [(at, 0, "hears", room) for room, at in self.heard.items()]
        inbox: dict[int, list[tuple[float, int]]] = {room: [] for room in self.heard}
        ages: dict[int, float] = {}
        while queue:
            queue.sort()
            now, _, what, room = queue.pop(0)
            if what == "hears":
                if self._hear(room) is CLAIMED:
                    ages[room] = now - self.heard[room]
                    queue.append((now + self.up_s[room], 1, "broker", room))
            elif what == "broker":
                for reader in self.heard:
                    at = max(now + self.down_s[reader], inbox[reader][-1][0] if inbox[reader] else 0.0)
                    inbox[reader].append((at, room))
                    queue.append((at, 2 + len(inbox[reader]), f"reads {reader}", room))
            else:
                self._read(int(what.split()[1]), room, now, ages[room])
        return [room for room, arbiter in self.arbiters.items() if arbiter.standing(1) is WON]

    def _hear(self, room: int) -> Standing:
        at = self.heard[room] + self.clocks[room]
        return self.arbiters[room].hear(1, self.kinds[room], at, near=self.near[room])

    def _read(self, reader: int, claimant: int, now: float, age: float) -> None:
        if reader == claimant:
            self.arbiters[reader].win(1)
        else:
            at = now - age + self.clocks[reader]
            self.arbiters[reader].lose(self.kinds[claimant], at, str(claimant), self.near[claimant])


DELAY = st.floats(0, 0.2)
ROOMS = st.integers(2, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0, 0.4), min_size=n, max_size=n),
        st.lists(st.sampled_from([WAKE, WAKE, INTERRUPTION]), min_size=n, max_size=n),
        *(st.lists(DELAY, min_size=n, max_size=n) for _ in range(2)),
        st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n),
        st.lists(st.integers(-9, -6), min_size=n, max_size=n),
    )
)


@given(ROOMS)
def test_exactly_one_room_answers_however_late_each_hears_and_is_told(rooms: tuple[list, ...]) -> None:  # type: ignore[type-arg]
    heard, kinds, up_s, down_s, clocks, near = rooms
    numbered = range(len(heard))
    house = House(dict(zip(numbered, heard, strict=True)), dict(enumerate(kinds)), up_s, down_s, clocks, near)
    winners = house.settle()
    assert len(winners) == 1, (heard, kinds, up_s, down_s, near)
    ranks = [(kind is INTERRUPTION, loud) for kind, loud in zip(kinds, near, strict=True)]
    assert ranks[winners[0]] == max(ranks), "who is interrupted, else who is nearest"


def test_the_room_that_heard_it_first_by_more_than_the_network_takes_answers() -> None:
    chance = random.Random(7)
    for _ in range(300):
        heard = {0: 0.0, 1: chance.uniform(0.1, 0.4), 2: chance.uniform(0.1, 0.4)}
        network = [[chance.uniform(0.001, 0.05) for _ in heard] for _ in range(2)]
        house = House(heard, dict.fromkeys(heard, WAKE), *network, clocks=[0.0, 5e5, -3.0])
        assert house.settle() == [0]
