"""The unit and the image of docs/deploy, as far as they can be tried without systemd and engine."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from afterglow.config import ROOMS, described
from afterglow.ui.commands import afterglow as command_line

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "docs" / "deploy" / "afterglow.service"
IMAGE = ROOT / "docs" / "deploy" / "Containerfile"

VARIABLES = {name for room in ROOMS for *_, setting in described(room) for name in setting.env}


@pytest.mark.parametrize("page", [UNIT, IMAGE], ids=lambda page: page.name)
def test_every_variable_is_a_setting(page: Path) -> None:
    named = set(re.findall(r"\bAFTERGLOW_[A-Z_]+(?==)", page.read_text()))
    assert named
    assert named <= VARIABLES


def test_the_lines_of_the_unit_are_lines_of_ours(tmp_path: Path) -> None:
    lines = re.findall(r"^Exec\w+=\S+/afterglow (.+)$", UNIT.read_text(), re.MULTILINE)
    assert len(lines) == 2
    settings = tmp_path / "afterglow.toml"
    settings.write_text(
        f'[serve]\ndatabase = "{tmp_path}/a.db"\n[ingest]\nhttp = "127.0.0.1:0"\ngrpc = "off"\n'
    )
    for line in lines:
        words = [str(settings) if word.endswith(".toml") else word for word in shlex.split(line)]
        words += [] if "--check" in words else ["--check"]
        result = CliRunner().invoke(command_line, words)
        assert result.exit_code == 0, result.output


def test_stopping_is_given_more_time_than_it_takes() -> None:
    from afterglow.config import ServeConfig

    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(stop_s) >= ServeConfig().drain_timeout_s + 5


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    analyse = shutil.which("systemd-analyze")
    sections = re.findall(r"^\[(\w+)\]$", UNIT.read_text(), re.MULTILINE)
    assert sections == ["Unit", "Service", "Install"]
    if analyse is None:
        return  # the lines were tried above; only Debian's own opinion is missing
    unit = tmp_path / "afterglow.service"
    program = Path(sys.executable).with_name("afterglow")
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/afterglow", str(program)))
    done = subprocess.run(
        [analyse, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about_us = [line for line in done.stderr.splitlines() if "afterglow" in line]
    assert about_us == []


def test_the_image_copies_what_is_there_and_listens_where_it_says() -> None:
    text = IMAGE.read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for line in copied for name in line.split())
    extras = re.search(r"'\.\[([\w,]+)\]'", text)
    assert extras is not None
    project = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in project for extra in extras[1].split(","))
    ports = set(re.findall(r"0\.0\.0\.0:(\d+)", text))
    assert ports == set(re.findall(r"\d+", re.search(r"^EXPOSE (.+)$", text, re.MULTILINE)[1]))  # type: ignore[index]
    assert "STOPSIGNAL SIGTERM" in text
