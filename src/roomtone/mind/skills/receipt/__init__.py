"""What left this machine, and the house, from the privacy receipt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from roomtone.core.errors import StoreError
from roomtone.core.persona import Egress
from roomtone.mind.numbers import spoken
from roomtone.mind.skills import Asked
from roomtone.outbound import Sent


async def answer(asked: Asked) -> list[str]:
    """Tell how much went where and why, what went beyond the house first."""
    when = asked.match.get("when", "today")
    since, until = period(when, asked.household.now())
    try:
        sent = [each for each in await asked.household.sent_out(since) if each.at < until]
    except StoreError:
        return [asked.say("not_whole")]
    beyond = [each for each in sent if each.reach is Egress.ANY]
    within = [each for each in sent if each.reach is not Egress.ANY]
    named = _within(asked, when)
    if not sent:
        return [asked.say("nothing", when=named)]
    if not beyond:
        return [asked.say("stayed", when=named, calls=_calls(asked, within)), *_hosts(asked, within)]
    told = [asked.say("beyond", when=named, calls=_calls(asked, beyond)), *_hosts(asked, beyond)]
    return [*told, asked.say("within", calls=_calls(asked, within))] if within else told


def period(when: str, now: datetime) -> tuple[datetime, datetime]:
    """Return from when until when something is asked for, in the zone of ``now``."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = {
        "today": midnight,
        "yesterday": midnight - timedelta(days=1),
        "week": midnight - timedelta(days=midnight.weekday()),
        "hour": now.astimezone(UTC) - timedelta(hours=1),
    }
    return since[when], midnight if when == "yesterday" else datetime.max.replace(tzinfo=UTC)


def _hosts(asked: Asked, sent: Sequence[Sent]) -> list[str]:
    """Tell of each host, where most went first, and in one of all that are not named."""
    by_host: dict[str, list[Sent]] = {}
    for each in sent:
        by_host.setdefault(each.host, []).append(each)
    most = sorted(by_host, key=lambda host: -sum(each.bytes for each in by_host[host]))
    named, others = most[: asked.data["hosts"]], most[asked.data["hosts"] :]
    told = [_host(asked, host, by_host[host]) for host in named]
    rest = [each for host in others for each in by_host[host]]
    return [*told, asked.say("others", calls=_calls(asked, rest), amount=_amount(asked, rest))] if rest else told


def _host(asked: Asked, host: str, sent: Sequence[Sent]) -> str:
    why = asked.phrases.joined(list(dict.fromkeys(_why(asked, each.why) for each in sent)))
    return asked.say("host", calls=_calls(asked, sent), host=host, amount=_amount(asked, sent), why=why)


def _why(asked: Asked, why: str) -> str:
    key = f"why_{why.partition(' ')[0]}"
    return _within(asked, key) if key in asked.phrases.texts else _within(asked, "why_other", why=why)


def _calls(asked: Asked, sent: Sequence[Sent]) -> str:
    return _within(asked, "call" if len(sent) == 1 else "calls", number=_number(asked, len(sent)))


def _amount(asked: Asked, sent: Sequence[Sent]) -> str:
    sizes = {kind: sum(each.bytes for each in sent if each.kind == kind) for kind in ("text", "audio")}
    told = {kind: _within(asked, kind, size=_size(asked, size)) for kind, size in sizes.items() if size}
    return _within(asked, "both", **told) if len(told) == 2 else next(iter(told.values()), _size(asked, 0))


def _size(asked: Asked, size: int) -> str:
    """Say a number of bytes as a person does, to two digits."""
    if size < 1000:
        return _within(asked, "little")
    unit, units = ("kilobyte", 1000) if size < 1_000_000 else ("megabyte", 1_000_000)
    number = Fraction(f"{size / units:.2g}")
    number = Fraction(round(number)) if number >= 10 else number
    return _within(asked, unit if number == 1 else f"{unit}s", number=_number(asked, number))


def _number(asked: Asked, number: Fraction | int) -> str:
    return spoken(Fraction(number), asked.phrases, places=1)


def _within(asked: Asked, key: str, **values: object) -> str:
    """Return a text that stands within a sentence."""
    text = asked.say(key, **values)
    return text[:1].lower() + text[1:]
