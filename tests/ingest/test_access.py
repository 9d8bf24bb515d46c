"""Who may send, whose spans they are, and where we listen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.config import IngestConfig, load
from afterglow.errors import SettingError
from afterglow.ingest.access import Access, Address, Denial, address_of, check_open, is_project

SHOP = "shop-token-0123456789"
BANK = "bank-token-0123456789"
ANY = "any-token-01234567890"


def access(**settings: object) -> Access:
    return Access(IngestConfig(**settings))  # type: ignore[arg-type]


@pytest.fixture
def three() -> Access:
    return access(tokens=(f"{SHOP}:shop", f"{BANK}:bank", f"{ANY}:*"))


def test_the_token_says_the_project(three: Access) -> None:
    assert three.project_of(f"Bearer {SHOP}".encode(), None) == "shop"
    assert three.project_of(f"bearer  {BANK}".encode(), None) == "bank"
    assert three.project_of(f"Bearer {BANK}".encode(), b"bank") == "bank"


def test_a_token_for_one_project_does_not_reach_another(three: Access) -> None:
    denial = three.project_of(f"Bearer {SHOP}".encode(), b"bank")
    assert isinstance(denial, Denial) and denial.kind == "forbidden"


def test_a_token_for_any_project_follows_the_header(three: Access) -> None:
    assert three.project_of(f"Bearer {ANY}".encode(), b"bank") == "bank"
    assert three.project_of(f"Bearer {ANY}".encode(), None) == "default"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        SHOP.encode(),
        f"Basic {SHOP}".encode(),
        f"Bearer {SHOP[:-1]}".encode(),
        f"Bearer {SHOP}x".encode(),
        f"Bearer {SHOP} {BANK}".encode(),
        f"Bearer {SHOP}:shop".encode(),
        f"Bearer {SHOP}, Bearer {BANK}".encode(),
        b"Bearer \xff\x00",
    ],
)
def test_anything_else_is_unauthenticated(three: Access, authorization: bytes | None) -> None:
    denial = three.project_of(authorization, None)
    assert isinstance(denial, Denial) and denial.kind == "unauthenticated"
    assert SHOP not in denial.message


@given(st.binary(max_size=60))
def test_no_bytes_but_a_token_get_in(authorization: bytes) -> None:
    denial = access(tokens=(f"{SHOP}:shop",)).project_of(authorization, None)
    assert isinstance(denial, Denial)


def test_without_tokens_the_header_says_the_project() -> None:
    assert access().project_of(None, None) == "default"
    assert access().project_of(None, b"shop") == "shop"
    assert access().project_of(b"Bearer whatever", b"") == "default"


def test_unless_it_may_not() -> None:
    closed = access(project_header=False)
    assert closed.project_of(None, b"default") == "default"
    denial = closed.project_of(None, b"shop")
    assert isinstance(denial, Denial) and denial.kind == "forbidden"


@pytest.mark.parametrize("name", [b".shop", b"a/b", b"a b", b"..", b"x" * 65, b"caf\xc3\xa9", b"*"])
def test_a_project_that_cannot_be_one(name: bytes) -> None:
    denial = access().project_of(None, name)
    assert isinstance(denial, Denial) and denial.kind == "bad_project"


@given(st.text(max_size=70))
def test_projects_are_names_of_files_too(name: str) -> None:
    if is_project(name):
        assert Path(f"/x/afterglow.{name}.db").resolve().parent == Path("/x")
        assert 1 <= len(name) <= 64 and name.isascii() and not name.startswith(".")


# --- settings


def test_tokens_of_the_environment_and_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who may\n{BANK}  bank   # the bank\n\n{ANY}\n")
    config = load(
        IngestConfig,
        {"tokens_file": str(file)},
        {"AFTERGLOW_INGEST_TOKENS": f"{SHOP}:shop"},
    )
    both = Access(config)
    assert both.project_of(f"Bearer {SHOP}".encode(), None) == "shop"
    assert both.project_of(f"Bearer {BANK}".encode(), None) == "bank"
    assert both.project_of(f"Bearer {ANY}".encode(), None) == "default"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no tokens"),
        ("# nobody\n", "has no tokens"),
        ("short shop\n", ":1 is no token"),
        (f"{SHOP} shop more\n", ":1 takes TOKEN PROJECT"),
        (f"{SHOP} .hidden\n", ":1 has a project"),
        (f"{SHOP} shop\n{SHOP} bank\n", ":2 is the same token"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(SettingError, match=says) as raised:
        access(tokens_file=str(file))
    assert SHOP not in str(raised.value) and "short" not in str(raised.value)


def test_a_file_of_tokens_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cannot read the tokens in .*missing"):
        access(tokens_file=str(tmp_path / "missing"))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match="is no text"):
        access(tokens_file=str(tmp_path / "tokens"))


@pytest.mark.parametrize("token", ["", "short", "has space in it now", "x" * 20 + ":"])
def test_a_token_that_cannot_be_one(token: str) -> None:
    with pytest.raises(SettingError, match=r"tokens, number 1, (is|has)") as raised:
        access(tokens=(token,))
    assert not token or token not in str(raised.value)


# --- addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4318", Address("127.0.0.1", 4318)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:80", Address("localhost", 80)),
        ("off", None),
        ("OFF", None),
    ],
)
def test_addresses(text: str, address: Address | None) -> None:
    assert address_of("http", text) == address
    if address is not None:
        assert str(address) == text
        assert address.is_loopback


@pytest.mark.parametrize("text", ["4318", ":4318", "host", "host:", "host:x", "::1:80", "h:65536"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SettingError, match=f"grpc='{text}' is no address"):
        address_of("grpc", text)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "collector.example"])
def test_beyond_this_machine_it_takes_tokens(host: str) -> None:
    address = Address(host, 4318)
    nobody = IngestConfig()
    with pytest.raises(SettingError, match="is open to other machines") as raised:
        check_open("http", address, nobody, Access(nobody))
    assert "\n" not in str(raised.value)
    for config in (IngestConfig(tokens=(SHOP,)), IngestConfig(allow_anonymous=True)):
        check_open("http", address, config, Access(config))
