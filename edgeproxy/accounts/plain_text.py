"""Texts in plain characters, where a phone number may stand in them: without entities, tags, marks and URIs."""

import html
import re
import unicodedata
from urllib.parse import unquote

_FOLDED_MOST = 8192  # characters
_HOURS = re.compile(
    r"(?<![0-9+])(?:\d{1,2}(?:[:.]\d\d)?+ ?(?:[ap]\.?m\.?)?+ ?(?:-|to|bis|à|a) ?\d{1,2}(?:[:.]\d\d)?+"
    r" ?(?:uhr|hrs?|h|[ap]\.?m)(?![a-z])|\d{1,2}:\d\d(?!\d))",
    re.ASCII | re.IGNORECASE,
)
_PLAIN = re.compile(r"[0-9+ ()./-]*+")
_TAG = re.compile(r"<(?!(?:tel|telprompt|callto|sips?):)[A-Za-z/!?][^<>]*+>", re.IGNORECASE)
_TEL = re.compile(r"(?<![A-Za-z])(?:tel|telprompt|callto):", re.IGNORECASE)
_SIP = re.compile(r"(?<![A-Za-z])sips?:", re.IGNORECASE)
_URI_END = re.compile(r"[<>\"?]")
_USER = re.compile(r"[ +0-9().-]++(?:[:;]|$)")
_IN_BRACKETS = re.compile(r"<(\+?[0-9][0-9 ().-]{4}[^<>]*+)>")
_WORDS = re.compile(r"[^\s<>\"',]++")
_DIALLED = re.compile(r"\+?[0-9().-]+")


class _Folded(dict[int, str | None]):
    """What a character becomes, for `str.translate`: filled as characters are seen."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        category = unicodedata.category(char)
        folded: str | None = char
        if char in "\r\n\t\x0b\x0c\x85\u2028\u2029":
            folded = "\n"
        elif category in ("Cf", "Mn", "Me"):  # zero-width and bidi marks; what makes emojis of digits
            folded = None
        elif category == "Zs":
            folded = " "
        elif category == "Nd":
            folded = str(unicodedata.decimal(char))
        elif category == "Pd" or char in "\u2212\u30fc\u223c\u2053\uff5e":
            folded = "-"
        elif code > 127:
            compatible = unicodedata.normalize("NFKC", char)
            if char in "\u2018\u2019\u2032":
                folded = "'"
            elif len(compatible) == 1 and compatible.isascii() and not compatible.isdigit():  # not of footnotes: ²
                folded = compatible
        if len(self) < _FOLDED_MOST:
            self[code] = folded
        return folded


_folded = _Folded()


def to_plain(text: str) -> str:
    """The part of a text that may hold a number, in ASCII as far as it matters."""
    if _PLAIN.fullmatch(text):
        return text
    for _ in range(2):  # what was escaped is escaped once more by some
        decoded = html.unescape(unquote(text)) if "%" in text or "&" in text else text
        if decoded == text:
            break
        text = decoded
    text = text.translate(_folded)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if ":" in text:
        if uri := _SIP.search(text):
            return _user(text[uri.end() :])
        if uri := _TEL.search(text):
            text = text[uri.end() :]
    if "<" in text and (inner := _IN_BRACKETS.search(text)):
        text = inner[1]
    if "@" in text:
        text = _WORDS.sub(lambda word: _word(word[0]), text)
    return _HOURS.sub(",", text)


def _user(uri: str) -> str:
    """The user part of a SIP URI, with its parameters; host, port and their parameters say nothing of a number."""
    end = _URI_END.search(uri)
    user, at, _ = (uri[: end.start()] if end else uri).partition("@")
    if (not at and not user.startswith("+")) or not (user.isascii() and _USER.match(user)):
        return ""  # a host alone, or no number
    number, parameter, more = user.partition(";")
    return number.partition(":")[0] + parameter + more  # without a password


def _word(word: str) -> str:
    """A word of a text; of one with an `@`, the part before it if that is a number."""
    user, at, _ = word.partition("@")
    return word if not at else user if _DIALLED.fullmatch(user.partition(";")[0]) else ","
