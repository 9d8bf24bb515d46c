"""OTLP that others send: how much of it is taken, and what is taken out of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from afterglow.config.setting import Setting

__all__ = ["SECRET_KEYS", "OtlpConfig"]

_MIB = 1 << 20

#: Keys of OpenTelemetry's semantic conventions for headers, and what people call such things. Not
#: among them: counts of tokens, and session.id.
SECRET_KEYS = (
    "*authorization*",
    "*cookie*",
    "*password*",
    "*passwd*",
    "*secret*",
    "*credential*",
    "*api-key*",
    "*api_key*",
    "*apikey*",
    "*access-key*",
    "*access_key*",
    "*private-key*",
    "*private_key*",
    "token",
    "*[._-]token",
    "*accesstoken*",
    "*access[._-]token*",
    "*auth[._-]token*",
    "*refresh[._-]token*",
    "*csrf*",
    # Where a list goes on, and how something is stopped.
    "!*page[._-]token*",
    "!*cancellation[._-]token*",
)


class OtlpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of what senders send as OTLP, and attributes whose values are not kept."""

    max_body_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request with a larger body, as it comes over the wire, is refused.",
            ("AFTERGLOW_OTLP_MAX_BODY_BYTES",),
            1_024,
            1 << 30,
        ),
    ] = 16 * _MIB
    max_decompressed_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request whose body is larger when it has been decompressed is refused.",
            ("AFTERGLOW_OTLP_MAX_DECOMPRESSED_BYTES",),
            1_024,
            1 << 30,
        ),
    ] = 64 * _MIB
    max_spans: Annotated[
        int,
        Setting(
            "spans",
            "A request with more is refused, and one with more scopes or resources.",
            ("AFTERGLOW_OTLP_MAX_SPANS",),
            1,
            10_000_000,
        ),
    ] = 100_000
    max_span_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request with a span, scope or resource that is larger is refused.",
            ("AFTERGLOW_OTLP_MAX_SPAN_BYTES",),
            1_024,
            1 << 30,
        ),
    ] = 4 * _MIB
    max_span_fields: Annotated[
        int,
        Setting(
            "fields",
            "A request with a span, scope or resource of over 16 KiB that has more is refused; an "
            "attribute has four.",
            ("AFTERGLOW_OTLP_MAX_SPAN_FIELDS",),
            1_024,
            10_000_000,
        ),
    ] = 200_000
    max_payload_bytes: Annotated[
        int,
        Setting(
            "bytes",
            "A request is refused whose spans are larger, where each has its resource with it.",
            ("AFTERGLOW_OTLP_MAX_PAYLOAD_BYTES",),
            1_024,
            1 << 32,
        ),
    ] = 256 * _MIB
    max_json_nodes: Annotated[
        int,
        Setting(
            "marks",
            "Brackets that open and commas, in JSON: a request with more, those in texts too, is "
            "refused before it is read.",
            ("AFTERGLOW_OTLP_MAX_JSON_NODES",),
            1_024,
            100_000_000,
        ),
    ] = 2_000_000
    max_attributes: Annotated[
        int,
        Setting(
            "attributes",
            "A span, event, link, scope or resource keeps its first ones, and counts the others.",
            ("AFTERGLOW_OTLP_MAX_ATTRIBUTES",),
            0,
            1_000_000,
        ),
    ] = 1_024
    max_events: Annotated[
        int,
        Setting(
            "events",
            "A span keeps its first ones.",
            ("AFTERGLOW_OTLP_MAX_EVENTS",),
            0,
            1_000_000,
        ),
    ] = 1_024
    max_links: Annotated[
        int,
        Setting(
            "links",
            "A span keeps its first ones.",
            ("AFTERGLOW_OTLP_MAX_LINKS",),
            0,
            1_000_000,
        ),
    ] = 1_024
    max_value_length: Annotated[
        int,
        Setting(
            "characters",
            "Longer values of attributes (characters of a text, or bytes) are cut.",
            ("AFTERGLOW_OTLP_MAX_VALUE_LENGTH",),
            1,
            1 << 30,
        ),
    ] = 64 << 10
    max_depth: Annotated[
        int,
        Setting(
            "levels",
            "A request with a value that has others inside it for more levels is refused.",
            ("AFTERGLOW_OTLP_MAX_DEPTH",),
            1,
            32,
        ),
    ] = 32
    scrub: Annotated[
        tuple[str, ...],
        Setting(
            "patterns",
            "Attributes whose key is like one of these, in any case, keep no value; one that "
            "begins with ! spares keys. A single ! switches it off.",
            ("AFTERGLOW_OTLP_SCRUB",),
        ),
    ] = SECRET_KEYS
    scrub_more: Annotated[
        tuple[str, ...],
        Setting(
            "patterns",
            "The same, beside those that are there already.",
            ("AFTERGLOW_OTLP_SCRUB_MORE",),
        ),
    ] = ()
