"""What the front door does to each request before it looks for a replica: names it, places it in a trace, times it.

The rules are those of `tracing.py` and `deadline.py`, in HAProxy's words: a replica behind the front takes over what
the front has written.
"""

from __future__ import annotations

from mlcluster.serve.deadline import RECEIVED, TIMEOUTS

_VERSIONS = "(00|0[1-9a-f]|[1-9a-e][0-9a-f]|f[0-9a-e])"
_TRACEPARENT = f"^{_VERSIONS}-[0-9a-f]{{32}}-[0-9a-f]{{16}}-[0-9a-f]{{2}}(-.*)?$"
_LONG_00 = "^00.{53}-"
"""Version 00 has nothing behind its flags."""
_UUID_PARTS = ((0, 8), (9, 4), (14, 4), (19, 4), (24, 12))
"""Of its 36 letters, those between the hyphens: start and length."""
TRACE_MEMBERS = {"request_id": "%[var(txn.id)]", "trace_id": "%[var(txn.trace)]"}
"""Of a refusal's body, in HAProxy's format of logs."""


def naming_rules() -> list[str]:
    """Of a frontend: `x-request-id` and `traceparent`, to the replica and back to the client, and when it came."""
    given, none = "req.fhdr(traceparent)", "!{ var(txn.trace) -m found }"
    zeros = " ".join(
        f"!{{ {given},bytes({at}) -m str {'0' * length} }}" for at, length in (("3,32", 32), ("36,16", 16))
    )
    valid = f"{{ req.hdr_cnt(traceparent) eq 1 }} {{ {given} -m reg {_TRACEPARENT} }} !{{ {given} -m reg {_LONG_00} }}"
    digits = "".join(f"%[var(txn.uuid),bytes({start},{length})]" for start, length in _UUID_PARTS)
    return [
        # One draw names all: a regular expression, or a second draw, costs more than these pieces.
        "  http-request set-var(txn.uuid) uuid",
        f"  http-request set-var-fmt(txn.digits) {digits}",
        # A client's own id stays where it is plain text.
        "  http-request set-header x-request-id %[var(txn.uuid)] "
        "unless { req.fhdr(x-request-id) -m reg ^[!-~]{1,128}$ }",
        "  http-request set-var(txn.id) req.fhdr(x-request-id)",
        f"  http-request set-var(txn.trace) {given},bytes(3,32) if {valid} {zeros}",
        "  http-request set-var(txn.flags) str(00)",
        f"  http-request set-var(txn.flags) str(01) if {{ var(txn.trace) -m found }} {{ {given},bytes(54,1) "
        "-m reg [13579bdf] }",
        f"  http-request del-header tracestate if {none}",
        f"  http-request set-var(txn.trace) var(txn.digits) if {none}",
        "  http-request set-var-fmt(txn.hop) 00-%[var(txn.trace)]-%[var(txn.digits),bytes(16,16)]-%[var(txn.flags)]",
        "  http-request set-header traceparent %[var(txn.hop)]",
        f"  http-request set-header {RECEIVED.decode()} %[date(0,ms)]",
        *(
            f"  http-after-response set-header {name} %[var(txn.{kept})] if {{ var(txn.{kept}) -m found }}"
            for name, kept in (("x-request-id", "id"), ("traceparent", "hop"))
        ),
    ]


def renaming_rules() -> list[str]:
    """Of a frontend behind that one: its refusals bear the names that the request has already."""
    return [
        "  http-request set-var(txn.id) req.fhdr(x-request-id)",
        "  http-request set-var(txn.trace) req.fhdr(traceparent),bytes(3,32)",
    ]


OTHER = "{ var(txn.other) -m found }"
"""A condition: the request is for a model beside the endpoint's own."""


def choosing_rules(others: str) -> list[str]:
    """Of a frontend: which model beside the own one is meant, by a map from `NAME`, `NAME@ALIAS` and `NAME/VERSION`."""
    return [
        "  http-request set-var(txn.called) path,url_dec,field(4,/) if { path_beg /v2/models/ }",
        "  http-request set-var-fmt(txn.called) %[var(txn.called)]/%[path,url_dec,field(6,/)] "
        "if { path_beg /v2/models/ } { path,url_dec,field(5,/) -m str versions }",
        f"  http-request set-var(txn.other) var(txn.called),map_str({others})",
    ]


def deadline_rules(longest_seconds: float) -> list[str]:
    """Of a backend: an answer has to begin within what the request says, where that is less than `longest_seconds`."""
    longest = round(longest_seconds * 1_000)
    return [
        f"  http-request set-timeout server req.hdr_val({name}) "
        f"if {{ req.hdr_val({name}) gt 0 }} {{ req.hdr_val({name}) lt {longest} }}"
        for name in map(bytes.decode, reversed(TIMEOUTS))
    ]
