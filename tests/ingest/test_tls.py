"""TLS at both addresses, and what is said of files that cannot be used."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import trustme
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpExporter,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from afterglow.config import IngestConfig
from afterglow.errors import SettingError
from afterglow.ingest.access import Access
from afterglow.ingest.grpc_face import GrpcFace
from afterglow.ingest.http_face import HttpFace
from afterglow.ingest.tls import tls_files

from .conftest import PATIENCE_S, Rig, request_of
from .test_exporters import provider, trade
from .test_grpc import EXPORT


class Files:
    """An authority, a certificate of the server and one of a client, in PEM."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        server = self.authority.issue_cert("localhost", "127.0.0.1")
        client = self.authority.issue_cert("client@example.org")
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        for name, made in (("server", server), ("client", client)):
            made.private_key_pem.write_to_path(folder / f"{name}.key")
            for number, blob in enumerate(made.cert_chain_pems):
                blob.write_to_path(folder / f"{name}.pem", append=number > 0)
        self.cert, self.key = folder / "server.pem", folder / "server.key"
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"

    def settings(self, **more: object) -> dict[str, object]:
        return {"tls_cert": str(self.cert), "tls_key": str(self.key), **more}

    def context(self, *, with_client: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if with_client:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def post(rig: Rig, context: ssl.SSLContext) -> int:
    address = rig.http.address
    connection = http.client.HTTPSConnection(
        address.host, address.port, timeout=PATIENCE_S, context=context
    )
    try:
        connection.request(
            "POST", "/v1/traces", request_of(), {"content-type": "application/x-protobuf"}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_exporters_of_python(
    make_rig: Callable[..., Rig], files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # these would win over certificate_file
        monkeypatch.delenv(name, raising=False)
    rig = make_rig(**files.settings())
    over_http = HttpExporter(
        endpoint=f"https://{rig.http.address}/v1/traces", certificate_file=str(files.ca)
    )
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
    over_grpc = GrpcExporter(endpoint=f"https://{rig.grpc.address}", credentials=credentials)
    for exporter in (over_http, over_grpc):
        with provider(SimpleSpanProcessor(exporter)) as made:
            trade(made, 2)
    assert len(rig.buffer.spans) == 20


def test_senders_with_certificates_only(make_rig: Callable[..., Rig], files: Files) -> None:
    rig = make_rig(**files.settings(tls_client_ca=str(files.ca)))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        post(rig, files.context())
    assert post(rig, files.context(with_client=True)) == 200
    ca = files.ca.read_bytes()
    without = grpc.ssl_channel_credentials(ca)
    with_one = grpc.ssl_channel_credentials(
        ca, files.client_key.read_bytes(), files.client_cert.read_bytes()
    )
    where = str(rig.grpc.address)
    with grpc.secure_channel(where, without) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(EXPORT)(request_of(), timeout=PATIENCE_S)
    with grpc.secure_channel(where, with_one) as channel:
        channel.unary_unary(EXPORT)(request_of(first=2), timeout=PATIENCE_S)
    assert len(rig.buffer.spans) == 2


def test_a_stranger_among_authorities(make_rig: Callable[..., Rig], files: Files) -> None:
    rig = make_rig(**files.settings(tls_client_ca=str(files.ca)))
    context = files.context()
    stranger = trustme.CA().issue_cert("stranger@example.org")
    stranger.configure_cert(context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        post(rig, context)
    assert rig.buffer.begun == 0


def test_old_versions_are_not_spoken(make_rig: Callable[..., Rig], files: Files) -> None:
    rig = make_rig(**files.settings())
    context = files.context()
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        post(rig, context)


def test_peers_that_do_not_speak_it(make_rig: Callable[..., Rig], files: Files) -> None:
    rig = make_rig(**files.settings(header_timeout_s=0.1))
    with rig.connect() as silent, rig.connect() as plain:
        plain.sendall(b"POST /v1/traces HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
        for peer in (plain, silent):
            with suppress(ConnectionError):
                while peer.recv(1_000):
                    pass
    assert post(rig, files.context()) == 200


def test_a_handshake_that_is_not_finished_does_not_hold_up_the_end(
    make_rig: Callable[..., Rig], files: Files
) -> None:
    rig = make_rig(**files.settings())
    with rig.connect():
        rig.http.stop(PATIENCE_S)


# --- files


def refused(**settings: str) -> str:
    """What both faces say of these, in one line."""
    config = IngestConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(SettingError) as raised:
        tls_files(config)
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_one_without_the_other(files: Files) -> None:
    assert "tls_key is missing" in refused(tls_cert=str(files.cert))
    assert "tls_cert is missing" in refused(tls_key=str(files.key))
    assert "tls_cert is missing" in refused(tls_client_ca=str(files.ca))


def test_files_that_are_not_there(files: Files) -> None:
    missing = str(files.ca.with_name("missing.pem"))
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        settings = {**files.settings(tls_client_ca=str(files.ca)), name: missing}
        said = refused(**settings)  # type: ignore[arg-type]
        assert said == f"{name}: cannot read {missing}: No such file or directory"


def test_files_that_are_something_else(files: Files, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    cert, key = str(files.cert), str(files.key)
    assert "in PEM" in refused(tls_cert=str(rubbish), tls_key=key)
    assert "in PEM" in refused(tls_cert=cert, tls_key=str(rubbish))
    assert "no certificates" in refused(tls_cert=cert, tls_key=key, tls_client_ca=str(rubbish))
    other = Files(_folder(tmp_path / "other"))
    assert "KEY_VALUES_MISMATCH" in refused(tls_cert=cert, tls_key=str(other.key))


def test_a_key_with_a_password_is_not_asked_for(files: Files, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "without a password" in refused(tls_cert=str(files.cert), tls_key=str(locked))


def test_faces_say_it_before_they_listen(rig: Rig, files: Files) -> None:
    config = IngestConfig(http="127.0.0.1:0", grpc="127.0.0.1:0", tls_cert=str(files.cert))
    for face in (HttpFace, GrpcFace):
        with pytest.raises(SettingError, match="tls_key is missing"):
            face(rig.intake, Access(config), config)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
