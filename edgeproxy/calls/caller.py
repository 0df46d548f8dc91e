"""Who calls, as carriers tell it: a number, one that is withheld, or a text that is neither.

Sources: RFC 3261 §8.1.1.3 and RFC 5079 (the name `Anonymous`, the host `anonymous.invalid`), 3GPP TS 29.163
(`unavailable@unknown.invalid`), draft-ietf-sip-privacy (`;privacy=` of Remote-Party-ID), and carriers whose fields have
room for digits alone: they spell withheld words as a keypad does (`+266696687` is ANONYMOUS).
"""

import re
import unicodedata
from dataclasses import dataclass, field
from urllib.parse import unquote

import phonenumbers

from edgeproxy.accounts.number import country_and_national, is_valid, read_number

ANONYMOUS = "anonymous"  # what is kept in a withheld caller's place
TEXT_MOST = 1024  # characters of a caller: a SIP header with its name and parameters

# Words that say that there is no number to tell; those that may stand beside them; and what says it in other ways.
_SENT = {"anonymous", "restricted", "unavailable", "private", "unknown", "blocked", "withheld"}
_WITHHELD = _SENT | {"hidden", "suppressed", "secret", "undisclosed", "unidentified", "unpublished", "payphone",
                     "none", "null", "nil", "undefined"}  # fmt: skip
_BESIDE = {"by", "call", "caller", "clid", "cli", "from", "id", "line", "name", "network", "number", "party", "the",
           "user"}  # fmt: skip
_PHRASES = {"no caller id", "no number", "not available", "number not available", "out of area", "coin line payphone",
            "n a", "na", "o", "p"}  # fmt: skip
_WORD = re.compile(r"[a-z]+")

_KEYS = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
_SPELT = {word.translate(_KEYS) for word in _SENT} | {"7378742883", "464"}  # the last two are no words, and are sent
_SPELT |= {"1" + digits for digits in _SPELT}  # by who takes what has no country code for North American
_INTERNATIONAL = re.compile(r"(?:\+|00)(?=[1-9])")

_HEADER = re.compile(r"<\s*((?:sips?|tel):[^<>]*|[^<>\s]*@[^<>]*|[+\d][^<>]*|)>([^<>]*)", re.IGNORECASE)
_SIP = re.compile(r"\s*sips?:", re.IGNORECASE)
_TEL = re.compile(r"\s*(?:tel|callto):", re.IGNORECASE)
_BARE_USER = re.compile(r"\+?[\d()\-\s]+|[a-z]+", re.IGNORECASE)  # of a URI without a host
_NOBODY_S_HOST = re.compile(r"(?:anonymous|restricted|unavailable|unknown|private)\.invalid", re.IGNORECASE)
_PRIVACY = re.compile(r";\s*privacy\s*=\s*\"?(?!off\b|none\b|name\b)\w", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: `withheld`, or a `number` (E.164), or neither, of whom nothing is to be kept."""

    number: str | None = field(default=None, repr=False)
    withheld: bool = False


def read_caller(text: str, region: str) -> Caller:
    """Read what a carrier sends as the caller. `region` (ISO 3166) is where a national number is read.

    A URI's user part counts, and never its host, its port or the name before it, but for `Anonymous`: RFC 3261 has who
    wants to stay unknown put it there.
    """
    header = _HEADER.search(text)
    name, uri, parameters = (text[: header.start()], header[1], header[2]) if header else ("", text, "")
    user, host = _of_uri(uri)
    if (
        _NOBODY_S_HOST.match(host)
        or _PRIVACY.search(parameters)
        or ANONYMOUS in _words(name)
        or _says_withheld(_TEL.sub("", user or uri).partition(";")[0])
    ):
        return Caller(withheld=True)
    number = read_number(user, region)
    if _is_spelt(user, number, region):
        return Caller(withheld=True)
    return Caller(number)


def _of_uri(uri: str) -> tuple[str, str]:
    """The user part, as it reads when decoded, and the host; what is no SIP URI is the user part."""
    scheme = _SIP.match(uri)
    rest = uri[scheme.end() :] if scheme else uri
    user, at, host = rest.rpartition("@")
    if at:
        return unquote(user.partition(":")[0] if scheme else user), host.strip()
    if scheme:
        rest = unquote(rest.partition(";")[0])
        return (rest, "") if _BARE_USER.fullmatch(rest) else ("", rest)
    return rest, ""


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def _says_withheld(text: str) -> bool:
    """Whether a text without digits is empty, or words for that there is no number to tell."""
    if any(char.isdecimal() for char in text):
        return False
    if not any(char.isalnum() for char in text):
        return True
    words = _words(text)
    return " ".join(words) in _PHRASES or (
        not _WITHHELD.isdisjoint(words) and all(word in _WITHHELD or word in _BESIDE for word in words)
    )


def _is_spelt(user: str, number: str | None, region: str) -> bool:
    """Whether digits are a withheld word as a keypad spells it, or zeros.

    Where people dial without a trunk prefix they can be somebody's number (`266 696 687` in Portugal): that one counts.
    """
    plain = "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char for char in unicodedata.normalize("NFKC", user)
    )
    digits = re.sub(r"\D", "", plain)
    if re.fullmatch(r"1?0+", digits) or (number is not None and number[1:] in _SPELT):
        return True
    if digits in _SPELT or digits.removeprefix("00") in _SPELT:
        dialled = (
            _INTERNATIONAL.match(plain.strip()) is None and phonenumbers.ndd_prefix_for_region(region, False) is None
        )
        return not dialled or number is None or not is_valid(number)
    return number is not None and not country_and_national(number)[1].strip("0")
