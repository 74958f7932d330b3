"""Written text made speakable: no markdown, emoji or addresses, and in English no digits or symbols either.

A text in another language keeps its digits: the synthesiser knows how to say them there.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from roomtone.core import spoken_english

_MAYBE_EMOJI = re.compile(r"[\xa9\xae\u203c\u2049\u20e3\u2122\u2139\u2190-\U0010ffff]")
"""Whatever is an emoji has one of these."""

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_LINK = re.compile(r"!?\[([^\[\]]{0,500})\](?:\([^()\s]{0,2000}(?:\s+\"[^\"]{0,500}\")?\)|\[[^\[\]]{0,200}\])")
_FOOTNOTE = re.compile(r"\[\^[^\[\]]{1,50}\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|<!--.{0,2000}?-->", re.DOTALL)
_ADDRESS = re.compile(r"<?\b(?:https?://|www\.)[^\s<>\"')\]]{1,2000}>?")
_RULE = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$|^[ \t]*\|?(?:[ \t]*:?-{2,}:?[ \t]*\|)+[ \t:|-]*$", re.MULTILINE)
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?)+", re.MULTILINE)
_HEADING = re.compile(r"^([ \t]*#{1,6}[ \t]+.*[^\s.!?:…#])[ \t#]*$", re.MULTILINE)
_CELL = re.compile(r"[ \t]*\|[ \t]*")
_EMPHASIS = re.compile(
    r"(?<![\w*_~])(\*\*\*|\*\*|\*|___|__|_|~~)(?=\S)|(?<=\S)(\*\*\*|\*\*|\*|___|__|_|~~)(?![\w*_~])"
)
_LEFT_OVER = re.compile(r"[*_`~#|<>\[\]{}\\^=•\u200b-\u200f\u2060\ufe0e\ufe0f\u20e3\x00-\x08\x0b-\x1f\x7f]+")
_WAITING_MARKS = re.compile(r"\s+([,.;:!?…])")
_REPEATED_COMMAS = re.compile(r"(?:,\s*){2,}|^\s*,\s*|,\s*(?=[.!?])")
_NO_WORD = re.compile(r"[A-Za-z0-9+/=_-]{65,}")
"""A picture, a key or the like as letters: no language has such a word, and spelling it would take a minute."""

_LONG_REPEAT = re.compile(r"([^\w\s])\1{3,}")


def speakable(text: str, language: str = "en") -> str:
    """Return what should be said for a text, in one line; "" where nothing can be said.

    Links keep their text, bare addresses only their host; blocks of code, tags and emoji are dropped. Takes time
    in proportion to the text and accepts any string.
    """
    text = _plain(_tidy(text))
    english = language.lower().startswith("en")
    text = _ADDRESS.sub(lambda found: f" {_host(found.group(), english)} ", text)
    text = _NO_WORD.sub(" ", text)
    if english:
        text = spoken_english.spoken(text)
    text = _LEFT_OVER.sub(" ", text)
    text = _LONG_REPEAT.sub(r"\1", text)
    text = _WAITING_MARKS.sub(r"\1", " ".join(text.split()))
    text = _REPEATED_COMMAS.sub(lambda found: ", " if found.group().startswith(",") and found.start() else "", text)
    text = text.strip(" ,;")
    return text if any(character.isalnum() for character in text) else ""


def in_words(id_: str) -> str:
    """Return the id of a persona or a routine as one says it."""
    return re.sub("[-_]+", " ", id_).strip()


def _tidy(text: str) -> str:
    """Drop what is never said; leave single spaces only, so that no pattern can be slow on a run of them."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be said
    text = _CODE_BLOCK.sub(" ", text)
    if _MAYBE_EMOJI.search(text):
        import emoji  # its table takes 5 MB: a room whose answers have none goes without

        text = emoji.replace_emoji(text, " ")
    return "\n".join(filter(None, (" ".join(line.split()) for line in text.splitlines())))


def _plain(text: str) -> str:
    """Take markdown away."""
    text = _FOOTNOTE.sub("", text)
    text = _LINK.sub(r"\1", _LINK.sub(r"\1", text))  # twice: an image may be a link's text
    text = _RULE.sub("", text)
    text = _HEADING.sub(r"\1.", text)
    text = _LINE_MARK.sub("", text)
    if "|" in text:
        text = _CELL.sub(", ", text)
    text = _EMPHASIS.sub("", _EMPHASIS.sub("", text))
    return _TAG.sub(lambda found: found.group() if _ADDRESS.match(found.group()) else " ", text)


def _host(address: str, english: bool) -> str:
    """Shorten an address to its host, as it is spoken."""
    tail = re.search(r"[.,;:!?]*$", address.strip("<>"))
    marks = tail.group() if tail else ""
    plain = address.strip("<>").rstrip(".,;:!?")
    try:
        host = urlsplit(plain if "://" in plain else f"//{plain}").hostname or ""
    except ValueError:  # a malformed address, such as half of an IPv6 one
        host = ""
    host = host.removeprefix("www.")
    return (host.replace(".", " dot ") if english else host) + marks
