"""Fuzzes what reads OTLP with atheris (`pip install atheris`), until stopped or for some seconds:

    python scripts/fuzz_otlp.py [-max_total_time=120] [FOLDER ...]

Whatever bytes come, only OtlpErrors leave. What is taken can be read again: as spans, as columns,
and as the request that is sent on, in protobuf and JSON.
"""

from __future__ import annotations

import sys

try:
    import atheris
except ImportError:
    sys.exit("fuzz_otlp: atheris is not installed; do: pip install atheris")

with atheris.instrument_imports(include=["afterglow"]):
    from afterglow.config import OtlpConfig
    from afterglow.errors import OtlpError
    from afterglow.otlp.body import ENCODINGS, decompress
    from afterglow.otlp.columns import read_columns
    from afterglow.otlp.payload import read_payloads, to_request, to_request_json
    from afterglow.otlp.request import OtlpRules, read_request
    from afterglow.store.attributes import encode_attributes

RULES = (
    OtlpRules.of(OtlpConfig()),
    OtlpRules.of(
        OtlpConfig(
            max_spans=3, max_attributes=1, max_events=1, max_links=1, max_value_length=2,
            max_depth=2, max_json_nodes=1_024,
        )
    ),
)  # fmt: skip
NO_RULES = OtlpRules.of(OtlpConfig(scrub=("!",), max_attributes=1_000_000))


def one_input(given: bytes) -> None:
    """The first byte says how the others are read."""
    if not given:
        return
    how, body = given[0], given[1:]
    if how & 4:
        try:
            body = decompress(body, ENCODINGS[(how >> 3) % len(ENCODINGS)], 1 << 20)
        except OtlpError:
            return
    try:
        found = read_request(body, json=bool(how & 1), project="p", rules=RULES[how >> 1 & 1])
    except OtlpError:
        return
    payloads = [span.payload for span in found.spans]
    read = read_payloads(payloads)
    columns, unreadable = read_columns(payloads, encode_attributes)
    assert not unreadable and sum(map(len, columns)) == len(read) == len(payloads)
    request = to_request(payloads)
    again = read_request(request, json=False, project="p", rules=NO_RULES)
    assert [span.span_id for span in again.spans] == [span.span_id for span in found.spans]
    # As texts, for NaN is not NaN.
    assert repr(read_payloads([span.payload for span in again.spans])) == repr(read)
    to_request_json(payloads)


def main() -> None:
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
