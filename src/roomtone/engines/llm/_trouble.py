"""What went wrong with a provider over HTTP, in plain words: from its status, its words or a broken connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from roomtone.clock import utc_now
from roomtone.engines.llm import LlmError, Trouble

LONGEST_QUOTE = 200
"""Letters of a provider's own words that an error repeats: enough for a sentence, and none of a web page."""

NO_ANSWER = "sends what is no answer of its own protocol"

LONGEST_REST_S = 86_400.0
"""No provider is believed to want a rest of more than a day."""

KINDS = {
    "authentication_error": Trouble.KEY,
    "permission_error": Trouble.KEY,
    "invalid_api_key": Trouble.KEY,
    "billing_error": Trouble.CREDIT,
    "insufficient_quota": Trouble.CREDIT,
    "billing_not_active": Trouble.CREDIT,
    "billing_hard_limit_reached": Trouble.CREDIT,
    "not_found_error": Trouble.MODEL,
    "model_not_found": Trouble.MODEL,
    "rate_limit_error": Trouble.LIMIT,
    "rate_limit_exceeded": Trouble.LIMIT,
    "overloaded_error": Trouble.BUSY,
    "context_length_exceeded": Trouble.TOO_LONG,
    "exceed_context_size_error": Trouble.TOO_LONG,
    "request_too_large": Trouble.TOO_LONG,
    "content_filter": Trouble.REFUSED,
    "content_policy_violation": Trouble.REFUSED,
}
"""What errors are called by OpenAI, Anthropic and llama-server (their API references, "errors"), where that says more
than the status does."""

STATUSES = {
    401: Trouble.KEY,
    402: Trouble.CREDIT,
    403: Trouble.KEY,
    404: Trouble.MODEL,
    405: Trouble.MODEL,
    408: Trouble.BUSY,
    409: Trouble.BUSY,
    413: Trouble.TOO_LONG,
    425: Trouble.BUSY,
    429: Trouble.LIMIT,
}

WORDS = (
    (re.compile(r"credit balance|insufficient (credit|fund)", re.I), Trouble.CREDIT),
    (re.compile(r"context (length|size|window)|prompt is too long|too many tokens", re.I), Trouble.TOO_LONG),
    (re.compile(r"model\b.*\b(not found|does not exist|not exist|unknown)", re.I), Trouble.MODEL),
)
"""What a bad request (400, 422) says where its error has no kind of its own."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who is asked: the ``host``, the ``model``, and what must not stand in any error."""

    host: str
    model: str
    secrets: tuple[str, ...] = ()

    def trouble(self, trouble: Trouble, what: str, retry_after_s: float | None = None) -> LlmError:
        """Return an error that names the model and its host, and says what is wrong with them."""
        return LlmError(f"{self.model} at {self.host} {what}", trouble, retry_after_s)

    def quote(self, text: str) -> str:
        """Return a provider's own words in one line, bounded and without secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "...")
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "..."


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a provider said of a failure: its HTTP status (0: none), what it calls it, its words, and when to ask."""

    status: int
    kinds: tuple[str, ...]
    words: str
    request: str = ""
    retry_after_s: float | None = None

    @property
    def trouble(self) -> Trouble:
        """Say what kind of trouble this is."""
        for kind in self.kinds:
            if kind in KINDS:
                return KINDS[kind]
        if self.status in (400, 422):
            return next((trouble for words, trouble in WORDS if words.search(self.words)), Trouble.NONSENSE)
        if self.status in STATUSES:
            return STATUSES[self.status]
        if 300 <= self.status < 400:
            return Trouble.MODEL
        return Trouble.NONSENSE if 400 <= self.status < 500 else Trouble.BUSY


def complaint(body: Any, response: Any) -> Complaint:
    """Read what a provider says of a failure: the JSON, or text, it sends, and the answer it came with, if it did."""
    while isinstance(body, Mapping) and "error" in body:
        body = body["error"]
    said: Mapping[str, Any] = body if isinstance(body, Mapping) else {"message": body or ""}
    kinds = tuple(str(said[key]) for key in ("code", "type") if isinstance(said.get(key), str))
    headers = {} if response is None else response.headers
    status = 0 if response is None else int(response.status_code)
    if not status and isinstance(said.get("code"), int):
        status = said["code"]  # some gateways put it there when the stream has begun
    request = str(headers.get("x-request-id") or headers.get("request-id") or "")
    words = str(said.get("message") or "")
    if words.lstrip().startswith("<"):
        words = ""  # a gateway's web page
    return Complaint(status, kinds, words, request[:64], retry_after(headers))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read for how many seconds a provider wants to rest: ``retry-after-ms``, or ``retry-after`` (seconds or a date).

    A date is held against the answer's own, so that a wrong clock on this machine does not matter (RFC 9110, 10.2.3).
    """
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return _bounded(float(milliseconds) / 1000)
        wish = headers.get("retry-after")
        if wish is None:
            return None
        if re.fullmatch(r"\s*[\d.]+\s*", wish):
            return _bounded(float(wish))
        until = parsedate_to_datetime(wish)
        answered = headers.get("date")
        since = parsedate_to_datetime(answered) if answered else utc_now()
        return _bounded((until - since).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None  # it is no more than a wish, and this one cannot be read


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_REST_S)


MENDS = {
    Trouble.KEY: "does not accept the key; set api_key of this provider",
    Trouble.CREDIT: "has nothing left to spend; top the account up",
    Trouble.MODEL: "is not there; look at model and base_url of this provider",
    Trouble.LIMIT: "is asked too often",
    Trouble.BUSY: "cannot answer now",
    Trouble.NONSENSE: "does not take the request",
    Trouble.TOO_LONG: "cannot take in so long a conversation; lower llm.tokens",
    Trouble.REFUSED: "will not answer this",
}


def refused(provider: Provider, said: Complaint) -> LlmError:
    """Make one line of a complaint: who, what is wrong, what mends it, and what the provider says itself."""
    trouble = said.trouble
    parts = [MENDS[trouble]]
    if 300 <= said.status < 400:
        parts = ["sends its callers elsewhere, and nothing is sent there; write the address it moved to in base_url"]
    if said.retry_after_s is not None:
        parts.append(f"; it wants {said.retry_after_s:.0f} s of rest")
    if said.words and trouble is not Trouble.KEY:  # what is wrong with a key often quotes the key
        parts.append(f": {provider.quote(said.words)}")
    marks = [f"HTTP {said.status}"] if said.status else []
    marks += [f"request {provider.quote(said.request)}"] if said.request else []
    return provider.trouble(trouble, "".join(parts) + _bracketed(marks), said.retry_after_s)


def _bracketed(marks: Iterable[str]) -> str:
    inside = ", ".join(marks)
    return f" ({inside})" if inside else ""


def broken(provider: Provider, error: BaseException, *, began: bool) -> LlmError:
    """Make one line of a connection that cannot be made, or that broke when the reply had begun."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    why = provider.quote(str(cause)) or type(cause).__name__
    what = "broke off in the midst of its reply" if began else "cannot be reached; is it on, and base_url right?"
    return provider.trouble(Trouble.BUSY, f"{what} ({why})")
