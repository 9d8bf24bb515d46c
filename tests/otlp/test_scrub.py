"""Secrets do not get as far as the buffer, wherever in a span they are."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from afterglow.config import OtlpConfig
from afterglow.otlp.request import OtlpRules, read_request
from afterglow.otlp.scrub import Scrubber
from tests.otlp.requests import as_json

SECRET = (
    "http.request.header.authorization",
    "http.request.header.Proxy-Authorization",
    "http.request.header.cookie",
    "http.response.header.set-cookie",
    "db.password",
    "PASSWD",
    "client_secret",
    "X-API-Key",
    "api_key",
    "apikey",
    "aws.access_key_id",
    "token",
    "session.token",
    "github-token",
    "http.request.header.x-auth-token",
    "refresh_token_value",
    "tls.private_key",
)
HARMLESS = (
    "http.route",
    "llm.token_count.prompt",
    "gen_ai.usage.input_tokens",
    "session.id",
    "tokenizer",
    "author",
    "messaging.kafka.message.key",
    "user.id",
    "next_page_token",
    "page.token",
    "cancellation_token",
)


def with_secrets() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    found = request.resource_spans.add()
    found.resource.attributes.add(key="vault.secret").value.string_value = "hunter2"
    scope = found.scope_spans.add()
    scope.scope.attributes.add(key="password").value.string_value = "hunter2"
    span = scope.spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    span.attributes.add(key="Authorization").value.string_value = "Bearer hunter2"
    span.attributes.add(key="password").value.int_value = 7_777_777
    inner = span.attributes.add(key="headers").value.kvlist_value.values.add(key="cookie")
    inner.value.array_value.values.add().string_value = "hunter2"
    listed = span.attributes.add(key="list").value.array_value.values.add()
    listed.kvlist_value.values.add(key="api_key").value.bytes_value = b"hunter2"
    span.attributes.add(key="kept").value.string_value = "yes"
    span.events.add().attributes.add(key="token").value.string_value = "hunter2"
    link = span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8)
    link.attributes.add(key="x-api-key").value.string_value = "hunter2"
    return request


@pytest.mark.parametrize("json", [False, True])
def test_secrets_are_gone_wherever_they_were(json: bool) -> None:
    request = with_secrets()
    body = as_json(request) if json else request.SerializeToString()
    found = read_request(body, json=json, project="p", rules=OtlpRules.of(OtlpConfig()))
    (span,) = found.spans
    assert b"hunter2" not in span.payload
    assert b"yes" in span.payload
    assert span.payload.count(b"[scrubbed]") == found.changed["scrubbed"] == 8


@pytest.mark.parametrize("key", SECRET)
def test_these_keys_are_secret(key: str) -> None:
    scrubber = Scrubber(OtlpConfig().scrub)
    assert scrubber.may_be_in(key.encode())
    request = ExportTraceServiceRequest()
    pairs = request.resource_spans.add().resource.attributes
    pairs.add(key=key)
    assert scrubber.scrub(pairs) == 1
    assert scrubber.scrub(pairs) == 0  # once is enough


@pytest.mark.parametrize("key", HARMLESS)
def test_these_are_not(key: str) -> None:
    pairs = ExportTraceServiceRequest().resource_spans.add().resource.attributes
    pairs.add(key=key).value.string_value = "kept"
    assert Scrubber(OtlpConfig().scrub).scrub(pairs) == 0
    assert pairs[0].value.string_value == "kept"


def test_it_can_be_switched_off_added_to_and_be_spared() -> None:
    def scrubbed(config: OtlpConfig, key: str) -> bool:
        pairs = ExportTraceServiceRequest().resource_spans.add().resource.attributes
        pairs.add(key=key)
        return bool(OtlpRules.of(config).scrubber.scrub(pairs))

    assert not scrubbed(OtlpConfig(scrub=("!",)), "password")
    assert scrubbed(OtlpConfig(scrub_more=("card.*",)), "Card.number")
    assert scrubbed(OtlpConfig(scrub_more=("card.*",)), "password")
    assert not scrubbed(OtlpConfig(scrub_more=("!app.password_age",)), "app.password_age")


def test_a_sender_that_makes_up_keys_does_not_fill_the_memory() -> None:
    scrubber = Scrubber(OtlpConfig().scrub)
    pairs = ExportTraceServiceRequest().resource_spans.add().resource.attributes
    for number in range(25_000):
        pairs.add(key=f"key {number}")
    assert scrubber.scrub(pairs) == 0
    assert len(scrubber._known) <= 10_000
