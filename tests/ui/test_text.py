"""Text from the watched program is made safe, and short enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afterglow.ui.text import attribute_texts, cell_len, clip, command_line, printable, shorten


def test_what_would_act_on_the_terminal_is_shown_instead() -> None:
    assert printable("a\x1b[31mb\nc") == "a\\x1b[31mb\\nc"
    assert printable("\u202egnp.exe") == "\\u202egnp.exe"
    assert printable("\ud800") == "\\ud800"
    assert printable("Größe 日本") == "Größe 日本"


@given(st.text())
def test_printable_text_has_no_control_character_left(text: str) -> None:
    shown = printable(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    shown.encode("utf-8")


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text: str, width: int) -> None:
    text = printable(text)
    for cut in (shorten(text, width), clip(text, width)):
        assert cell_len(cut) <= width
        if cell_len(text) <= width:
            assert cut == text


def test_the_middle_goes_and_the_function_stays() -> None:
    name = "package.module.with.many.parts:Class.method"
    assert shorten(name, 24) == "packa…parts:Class.method"
    assert shorten(name, 30) == "packag…many.parts:Class.method"
    assert shorten(name, 19) == "packag…Class.method"
    assert shorten(name, 8) == "pa…ethod"
    assert shorten(name, 24, mark="..") == "pack..parts:Class.method"
    assert shorten("a" * 30 + ".b", 12) == "aaa…aaaaaa.b"


def test_attributes_read_as_key_and_value() -> None:
    texts = attribute_texts({"a": 1, "b": "two words", "c": True, "d": None, "e": 0.1 + 0.2})
    assert texts == ["a=1", 'b="two words"', "c=true", "d=null", "e=0.3"]
    (long,) = attribute_texts({"key": "x" * 10_000})
    assert len(long) == 60


def test_where_the_code_is_comes_last_and_short() -> None:
    where = {"code.file.path": "/home/ada/project/app.py", "code.line.number": 12}
    assert attribute_texts({**where, "a": 1}) == ["a=1", "app.py:12"]
    assert attribute_texts({"code.file.path": "app.py"}) == ["app.py"]
    assert attribute_texts({"code.line.number": 3}) == []


def test_a_command_line_can_be_typed_again() -> None:
    assert command_line(("black", "a b.py")) == "black 'a b.py'"
    assert command_line(("/usr/bin/black", "-q")) == "black -q"
    assert command_line(("/lib/pytest/__main__.py", "-x")) == "pytest -x"
    assert command_line(("./app.py", "/etc")) == "./app.py /etc"
    assert command_line(()) == "(unknown program)"
