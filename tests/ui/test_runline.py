"""What stands before the script is ours; the rest is the program's, untouched."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterglow.ui.runline import FLAGS, VALUES, HelpWanted, RunLine, RunLineError, parse

words = st.lists(st.one_of(st.text(), st.sampled_from([*VALUES, *FLAGS, "-m", "--", "--help"])))


@given(words)
def test_whatever_follows_the_script_is_passed_on(rest: list[str]) -> None:
    assert parse(["script.py", *rest]) == RunLine("script.py", False, tuple(rest))
    assert parse(["--quiet", "-m", "module", *rest]) == RunLine(
        "module", True, tuple(rest), quiet=True
    )


@given(words)
def test_no_line_gives_anything_but_a_run_or_a_reason(line: list[str]) -> None:
    with contextlib.suppress(RunLineError, HelpWanted):
        assert parse(line).target


def test_every_option_is_understood_in_both_spellings() -> None:
    line = parse(
        [
            "--db",
            "x.db",
            "--include=a.*",
            "--include",
            "b",
            "--exclude=c",
            "--no-collapse",
            "--service=s",
            "--run-id",
            "r1",
            "--max-spans-per-second=1e3",
            "-q",
            "app.py",
            "--db",
        ]
    )
    assert line == RunLine(
        "app.py", False, ("--db",), "x.db", ("a.*", "b"), ("c",), "s", "r1", 1000.0, True, True
    )  # fmt: skip


def test_a_module_as_python_takes_it() -> None:
    assert parse(["-mpytest", "-x"]) == RunLine("pytest", True, ("-x",))
    assert parse(["--", "-odd.py", "-m"]) == RunLine("-odd.py", False, ("-m",))
    assert parse(["-", "x"]) == RunLine("-", False, ("x",))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ([], "nothing to run"),
        (["--db"], "--db needs a value: FILE"),
        (["--db=", "x.py"], "--db needs a value"),
        (["-m"], "-m needs a value: MODULE"),
        (["--"], "-- needs a value: SCRIPT"),
        (["--dbx", "x.py"], "no such option of afterglow run: --dbx"),
        (["--quiet=yes", "x.py"], "--quiet takes no value"),
        (["--max-spans-per-second", "many", "x.py"], "'many' is none"),
        ([""], "empty"),
    ],
)
def test_a_line_that_cannot_be_understood_says_which_word(line: list[str], reason: str) -> None:
    with pytest.raises(RunLineError, match=reason):
        parse(line)


def test_help_stands_before_the_script_only() -> None:
    with pytest.raises(HelpWanted):
        parse(["--quiet", "--help", "x.py"])
    assert parse(["x.py", "--help"]).arguments == ("--help",)
