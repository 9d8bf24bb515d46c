"""The pages say all that there is, and point at what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from afterglow import config, ledger
from afterglow.ui.commands import afterglow as command_line

ROOT = Path(__file__).resolve().parents[2]


def test_settings_page_is_up_to_date() -> None:
    """`make docs` writes it."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "settings_doc.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", config.ROOMS, ids=lambda room: room.__name__)
def test_every_setting_is_on_its_page(pages: dict[str, str], room: type) -> None:
    page = pages["docs/settings.md"]
    for name, _kind, _default, setting in config.described(room):
        assert f"### {name}\n" in page
        assert all(f"`{variable}`" in page for variable in setting.env)


@pytest.mark.parametrize(
    "name",
    [
        *ledger.DROP_REASONS,
        *ledger.NOT_RECORDED_REASONS,
        *ledger.BUFFER_DROP_REASONS,
        *ledger.CHANGE_KINDS,
        *ledger.FORGET_REASONS,
        *ledger.KEEP_COUNTERS,
        *ledger.HOT_COUNTERS,
        *ledger.Ledger.__annotations__,
    ],
)
def test_every_counter_is_on_its_page(pages: dict[str, str], name: str) -> None:
    assert f"| `{name}` |" in pages["docs/ledger.md"]


def test_every_reason_to_lose_a_span_is_in_the_guarantees(pages: dict[str, str]) -> None:
    missing = [r for r in ledger.DROP_REASONS if f"`{r}`" not in pages["docs/guarantees.md"]]
    assert missing == []


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_every_command_and_option_is_on_its_page(pages: dict[str, str], name: str) -> None:
    assert f"`afterglow {name}`" in pages["README.md"]
    _, heading, rest = pages["docs/commands.md"].partition(f"\n## afterglow {name}")
    section = rest.partition("\n## ")[0]
    assert heading
    command = command_line.commands[name]
    parts = [command]
    if isinstance(command, click.Group):
        parts += command.commands.values()
        assert {word for word in command.commands if f"| `{word}" not in section} == set()
    options = [
        p
        for part in parts
        for p in part.get_params(click.Context(part))
        if isinstance(p, click.Option)
    ]
    spelled = {word for option in options for word in option.opts} - {"--help", "-h"}
    assert {word for word in spelled if f"`{word}" not in section} == set()


def test_every_count_of_errors_is_on_its_page(pages: dict[str, str]) -> None:
    from afterglow.keep.error_recorder import ErrorCounts

    section = pages["docs/ledger.md"].partition("## Errors that were recorded")[2]
    assert {n for n in ErrorCounts.__annotations__ if f"| `{n}` |" not in section} == set()


def test_every_exit_code_is_on_its_page(pages: dict[str, str]) -> None:
    from afterglow.ui import failure

    codes = {v for k, v in vars(failure).items() if k.isupper() and isinstance(v, int)}
    assert codes
    assert {c for c in codes if f"| {c} |" not in pages["docs/exit-codes.md"]} == set()


def test_links_between_pages_lead_somewhere(pages: dict[str, str]) -> None:
    broken = [
        (page, target)
        for page, text in pages.items()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text)
        if not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_files_that_the_code_names_exist() -> None:
    """A comment that points at a page, test or benchmark that has moved is worse than none."""
    named = re.compile(r"\b((?:docs|tests|benchmarks|scripts)/[\w/-]+\.(?:md|py))")
    missing = [
        (str(file.relative_to(ROOT)), name)
        for file in sorted((ROOT / "src").rglob("*.py"))
        for name in named.findall(file.read_text())
        if not (ROOT / name).exists()
    ]
    assert missing == []


def test_every_room_is_in_the_architecture(pages: dict[str, str]) -> None:
    package = ROOT / "src" / "afterglow"
    rooms = {f"{d.parent.name}/" for d in package.glob("*/__init__.py")}
    files = {f.name for f in package.glob("[a-z]*.py")} - {"version.py"}
    page = pages["docs/architecture.md"]
    assert {name for name in rooms | files if f"`{name}`" not in page} == set()


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    described = re.findall(r"^([a-z]+):.*## \S", makefile, re.MULTILINE)
    assert described == phony.split()
