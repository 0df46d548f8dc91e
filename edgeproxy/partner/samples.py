"""A `curl` line for each operation, which works against `edgeproxy demo`; the ids are those of its records."""

import re

from edgeproxy.http.openapi.tree import MANAGE

_CURL = "curl -sS --digest -u demo:demo-password \\\n "
_LATER = "$(($(date +%s) + 5184000))"  # in 60 days, in seconds since 1970

# Method and path → the line; a word in braces is one of `_WORDS`.
_LINES = {
    "GET miscellaneous/ping": "{curl} {at}/miscellaneous/ping",
    "GET customers/{customer_id}": "{curl} {at}/customers/1",
    "PUT customers/{customer_id}": "{curl} -X PUT {at}/customers/1 -d email=ads@example.com",
    "DELETE customers/{customer_id}": "{customer}{curl} -X DELETE {at}/customers/$id",
    "GET customers": "{curl} '{at}/customers?custnr=1412'",
    "POST customers": "{curl} {at}/customers -d name=DailyLoans -d custnr=1412",
    "PUT customers": "{curl} -X PUT {at}/customers -d customer_id=1 -d email=ads@example.com",
    "DELETE customers": '{customer}{curl} -X DELETE "{at}/customers?customer_id=$id"',
    "GET customers/{customer_id}/voicemail_greetings/{vm_greeting_id}": (
        "{curl} {at}/customers/1/voicemail_greetings/2"
    ),
    "PUT customers/{customer_id}/voicemail_greetings/{vm_greeting_id}": (
        "{curl} -X PUT {at}/customers/1/voicemail_greetings/2 -d name=Closed"
    ),
    "DELETE customers/{customer_id}/voicemail_greetings/{vm_greeting_id}": (
        "{greeting}{curl} -X DELETE {at}/customers/1/voicemail_greetings/$id"
    ),
    "GET customers/{customer_id}/voicemail_greetings": "{curl} {at}/customers/1/voicemail_greetings",
    "POST customers/{customer_id}/voicemail_greetings": (
        "{curl} {at}/customers/1/voicemail_greetings -d name=Closed -d sounddata=UklGRiQAAABXQVZF"
    ),
    "GET customers/voicemail_greetings": "{curl} '{at}/customers/voicemail_greetings?customer_id=1'",
    "POST customers/voicemail_greetings": (
        "{curl} {at}/customers/voicemail_greetings -d customer_id=1 -d name=Closed -d sounddata=UklGRiQAAABXQVZF"
    ),
    "PUT customers/voicemail_greetings": (
        "{curl} -X PUT {at}/customers/voicemail_greetings -d customer_id=1 -d vm_greeting_id=2 -d name=Closed"
    ),
    "DELETE customers/voicemail_greetings": (
        '{greeting}{curl} -X DELETE "{at}/customers/voicemail_greetings?customer_id=1&vm_greeting_id=$id"'
    ),
    "GET sources/{source_id}": "{curl} {at}/sources/643967",
    "PUT sources/{source_id}": "{curl} -X PUT {at}/sources/643967 -d media=Bing.com",
    "DELETE sources/{source_id}": "{curl} -X DELETE {at}/sources/643968",
    "GET sources": "{curl} '{at}/sources?customer_id=1&status=active'",
    "POST sources": "{curl} {at}/sources -d customer_id=1 -d name=Poster --data-urlencode destnr=+493012345601",
    "PUT sources": "{curl} -X PUT {at}/sources -d source_id=643967 -d media=Bing.com",
    "DELETE sources": "{curl} -X DELETE '{at}/sources?source_id=643969'",
    "POST sources/{source_id}/extend": "{expire}{curl} {at}/sources/643967/extend -d expire={later}",
    "PUT sources/{source_id}/extend": "{expire}{curl} -X PUT {at}/sources/643967/extend -d expire={later}",
    "POST sources/extend": "{expire}{curl} {at}/sources/extend -d source_id=643967 -d expire={later}",
    "PUT sources/extend": "{expire}{curl} -X PUT {at}/sources/extend -d source_id=643967 -d expire={later}",
    "POST sources/{source_id}/reactivate": "{ended}{curl} -X POST {at}/sources/643970/reactivate",
    "PUT sources/{source_id}/reactivate": "{ended}{curl} -X PUT {at}/sources/643970/reactivate",
    "POST sources/reactivate": "{ended}{curl} {at}/sources/reactivate -d source_id=643970",
    "PUT sources/reactivate": "{ended}{curl} -X PUT {at}/sources/reactivate -d source_id=643970",
    "GET statistics/cdrs": "{curl} '{at}/statistics/cdrs?newest_first=1&pagesize=5'",
    "GET statistics/cdrs/{cdr_id}": "{curl} {at}/statistics/cdrs/1",
    "GET recordings": "{curl} {at}/recordings",
    "GET recordings/{recording_id}": "{curl} {at}/recordings/1",
}
# What must be so before a line: a record that may go, a source with an end, a source that has ended.
_WORDS = {
    "customer": (
        "id=$({curl} {at}/customers -d name=Test -d custnr=1 |\n"
        '  sed -n \'s/.*"customer_id":"\\([0-9]*\\)".*/\\1/p\')\n'
    ),
    "greeting": (
        "id=$({curl} {at}/customers/1/voicemail_greetings -d name=Test -d sounddata=UklGRiQAAABXQVZF |\n"
        '  sed -n \'s/.*"vm_greeting_id":"\\([0-9]*\\)".*/\\1/p\')\n'
    ),
    "expire": "{curl} -X PUT {at}/sources/643967 -d expire=$(($(date +%s) + 2592000))\n",
    "ended": "{curl} -X DELETE {at}/sources/643970\n",
}


def line(version: str, method: str, path: str) -> str:
    """The line for an operation at a path of an API of that version."""
    words = {"curl": _CURL, "at": f"{MANAGE}/{version}", "later": _LATER}
    words |= {name: before.format_map(words) for name, before in _WORDS.items()}
    return re.sub(r"(http\S+) (-d )", r"\1 \\\n  \2", _LINES[f"{method} {path}"].format_map(words))
