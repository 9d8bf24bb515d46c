"""The file of settings: what is taken, what is refused and how, and what comes before what."""

from __future__ import annotations

from pathlib import Path

import pytest

from afterglow.collecting.settings import load_settings
from afterglow.config import TABLES, described, read_settings_file
from afterglow.errors import SettingError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "afterglow.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(SettingError) as caught:
        read_settings_file(path, TABLES)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line.replace(str(path), "FILE")


def test_values_come_by_table_and_key(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeff[serve]\ndrain_timeout_s = 3\n[buffer]\nurl = "memory:"\n')
    assert read_settings_file(path, TABLES) == {
        "serve": {"drain_timeout_s": 3.0},
        "buffer": {"url": "memory:"},
    }


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    assert read_settings_file(written(tmp_path, ""), TABLES) == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[bufer]\n", "there is no table [bufer]: did you mean [buffer]?"),
        ("[buffer]\nroot_timeout = 1\n", "did you mean 'root_timeout_s'?"),
        ("[retention]\nmax_byte = 1\n", "[retention] has no 'max_byte': did you mean 'keep_max"),
        ("[serve]\nroot_timeout_s = 1\n", "'root_timeout_s': it belongs under [buffer]"),
        ("drain_timeout_s = 3\n", "stands outside of a table: it belongs under [serve]"),
        ("buffer = 3\n", "buffer is a table: write [buffer] and its keys below it"),
        ("[buffer]\nroot_timeout_s = 'x'\n", "[buffer] root_timeout_s='x' is not a number"),
        ("[buffer]\nroot_timeout_s = -1\n", "[buffer] root_timeout_s=-1.0 is out of range"),
        ("[buffer]\nshards = 2.5\n", "[buffer] shards=2.5 is not a whole number"),
        ("[serve]\nlog_format = 'xml'\n", "log_format='xml' is not one of text, json"),
        ("[serve]\nretention = 1\n", "[serve] retention=1 is not true or false"),
        ("[serve]\nretention = 2020-01-01\n", "is not true or false"),
        ("[serve\n", "is no TOML: "),
        ("[serve]\n[serve]\n", "is no TOML: "),
        ("a = " + "[" * 5_000, "is no TOML: "),
        (b"[serve]\xff", "is no UTF-8 text (byte 7)"),
        (b" " * ((1 << 20) + 1), "is larger than 1 MiB"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str | bytes, line: str) -> None:
    assert line in refusal(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(SettingError, match="cannot read the settings in"):
            read_settings_file(path, TABLES)


def test_every_room_takes_its_own_defaults(tmp_path: Path) -> None:
    """Whatever a default is, a file may say it: no key is of a type that TOML has not."""
    lines: list[str] = []
    for table, room in TABLES.items():
        lines.append(f"[{table}]")
        for name, _kind, default, _setting in described(room):
            if default is None:
                continue
            if isinstance(default, bool):
                lines.append(f"{name} = {str(default).lower()}")
            elif isinstance(default, tuple):
                lines.append(f"{name} = {list(default)!r}")
            else:
                lines.append(f"{name} = {default!r}")
    found = read_settings_file(written(tmp_path, "\n".join(lines)), TABLES)
    assert found.keys() == TABLES.keys()


def test_default_then_file_then_environment_then_flag(tmp_path: Path) -> None:
    path = written(tmp_path, "[serve]\ndrain_timeout_s = 3\nlog_level = 'debug'\n")
    none = load_settings(None, {}, {})
    assert none.serve.drain_timeout_s == 20.0
    file = load_settings(path, {}, {})
    assert file.serve.drain_timeout_s == 3.0
    environment = {"AFTERGLOW_SERVE_DRAIN_TIMEOUT_S": "4"}
    found = load_settings(path, {}, environment)
    assert (found.serve.drain_timeout_s, found.serve.log_level) == (4.0, "debug")
    found = load_settings(path, {"serve": {"drain_timeout_s": 5.0, "log_level": None}}, environment)
    assert (found.serve.drain_timeout_s, found.serve.log_level) == (5.0, "debug")


def test_embedded_waits_for_two_seconds_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    assert load_settings(None, {}, {}).buffer.root_timeout_s == 2.0
    assert load_settings(None, {}, {}).buffer.timeout_s == 10.0
    path = written(tmp_path, "[buffer]\nroot_timeout_s = 7\n")
    assert load_settings(path, {}, {}).buffer.root_timeout_s == 7.0
    redis = load_settings(None, {"buffer": {"url": "redis://h:1"}}, {})
    assert redis.buffer.root_timeout_s == 10.0
    assert not redis.is_embedded
    environment = {"AFTERGLOW_BUFFER_URL": "redis://h:1"}
    assert load_settings(path, {}, environment).buffer.root_timeout_s == 7.0
    assert load_settings(None, {}, environment).buffer.timeout_s == 60.0


def test_the_folder_is_beside_the_database() -> None:
    found = load_settings(None, {"serve": {"database": "x/traces.db"}}, {})
    assert found.folder == Path("x/traces.db.collect")
    found = load_settings(None, {"serve": {"folder": "elsewhere"}}, {})
    assert found.folder == Path("elsewhere")
