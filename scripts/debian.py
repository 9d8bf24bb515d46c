"""Programs that the tests need besides Python: found on the machine, else Debian's.

    python3 scripts/debian.py            redis-server and PostgreSQL; says where each is

As root they are installed with apt-get; no service is started, none is left to start at boot.
Without root, their packages and the libraries these need are unpacked into `.cache/debian` and
run from there; nothing is installed on the machine. The second time nothing is done. Needs the
standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"
UNPACKED = CACHE / "debian"
MACHINE_LISTS = Path("/var/lib/apt/lists")
POLICY = Path("/usr/sbin/policy-rc.d")


def say(text: str) -> None:
    print(f"-- {text}", flush=True)


class NotHere(RuntimeError):
    """A program that cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Program:
    """What to look for, and which package of Debian has it."""

    name: str
    package: str
    least: int
    """the oldest major version that will do"""
    files: tuple[str, ...]
    """names below `bin` directories, or patterns below `/`; the last match of one wins"""


@dataclass(frozen=True)
class Found:
    """A program that runs. Start it as `argv0`, by `executable`, with `env` added."""

    name: str
    executable: Path
    version: str
    env: dict[str, str] = field(default_factory=dict)

    @property
    def argv0(self) -> str:
        """PostgreSQL finds its other files by it; Redis's one binary is what it is called."""
        return str(self.executable if self.executable.name == self.name else self.name)


# Debian has the server's one binary in redis-tools, under the name of one of its other uses; the
# package redis-server adds the service, which nobody here wants.
REDIS = Program("redis-server", "redis-tools", 7, ("redis-server", "redis-check-rdb"))
POSTGRES = Program("postgres", "postgresql", 13, ("usr/lib/postgresql/*/bin/postgres", "postgres"))


def need(program: Program) -> Found:
    """Find it, else get it. Raises NotHere."""
    found = find(program)
    if found is not None:
        return found
    if not has_apt():
        raise NotHere(
            f"{program.name} {program.least} or newer is not on this machine, nor is apt-get to "
            f"get it with: install it (PATH must have it) and try again"
        )
    with _alone():
        found = find(program)
        if found is None and os.geteuid() == 0:
            _install(program.package)
            found = find(program)
        if found is None:
            unpack(program.package)
            found = find(program)
    if found is None:
        raise NotHere(
            f"{program.name} {program.least} or newer could not be had from Debian's package "
            f"{program.package} (see above): install it and try again"
        )
    return found


def find(program: Program) -> Found | None:
    """The program on this machine or in our cache, or None; an older one does not count."""
    for path in _places(program):
        env = _libraries() if path.is_relative_to(UNPACKED) else {}
        # The first word decides what Debian's one Redis binary is.
        try:
            done = subprocess.run(
                [program.name, "--version"],
                executable=path,
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except OSError:
            continue
        seen = re.search(r"(?:v=|\) )(\d+)[\d.]*", done.stdout)
        if done.returncode == 0 and seen and int(seen[1]) >= program.least:
            return Found(program.name, path, seen[0].lstrip("v=) "), env)
    return None


def _places(program: Program) -> Iterator[Path]:
    directories = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]
    for name in program.files:
        if "/" in name:
            yield from sorted(Path("/").glob(name), reverse=True)
            yield from sorted(UNPACKED.glob(name), reverse=True)
            continue
        for directory in [*directories, str(UNPACKED / "usr" / "bin")]:
            path = Path(directory or ".") / name
            if os.access(path, os.X_OK):
                yield path


def _libraries() -> dict[str, str]:
    """Where a program in our cache finds the libraries that were unpacked with it."""
    # Merged or not: packages put libraries below /lib as well as below /usr/lib.
    inside = [UNPACKED / "usr" / "lib", UNPACKED / "lib"]
    found = [str(path) for top in inside for path in (*top.glob("*-linux-gnu*"), top)]
    return {"LD_LIBRARY_PATH": os.pathsep.join(found)}


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process at a time gets packages for this clone."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def has_apt() -> bool:
    """Whether this machine is a Debian, or one of its kind."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


# --- as root: install ---------------------------------------------------------------------


def _install(package: str) -> None:
    """Install it, with no service started and no database made by its scripts left behind."""
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    say(f"apt-get install {package}   (no service is started)")
    clusters = set(Path("/etc/postgresql").glob("*/*"))
    _apt([*command, "update"])  # where one of many sources is out of reach, another may have it
    with _no_services():
        done = _apt([*command, "install", "--no-install-recommends", package])
    if done:
        # Debian makes a database cluster `main` that would be started at boot.
        for made in sorted(set(Path("/etc/postgresql").glob("*/*")) - clusters):
            _apt(["pg_dropcluster", made.parent.name, made.name])


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Debian's way to forbid that packages start what they bring; a machine's own rule stays."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _apt(command: list[str]) -> bool:
    """Run it quietly and without questions; where it fails, show what it said."""
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{' '.join(command)}\n{done.stdout[-2000:]}", flush=True)
    return done.returncode == 0


# --- as anybody: unpack ---------------------------------------------------------------------


def unpack(package: str) -> bool:
    """A package and what it needs that is not installed here, unpacked into `.cache/debian`."""
    archives = UNPACKED / "cache" / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    say(f"apt-get download {package} and what it needs, into .cache/debian")
    if not _download(package):
        return False
    for file in sorted(archives.glob("*.deb")):
        if not _apt(["dpkg-deb", "-x", str(file), str(UNPACKED)]):
            return False
        file.unlink()
    return True


def _download(package: str) -> bool:
    """By the machine's package lists, else by lists of our own."""
    command = ["apt-get", "-q", "-y", "-o", "Debug::NoLocking=true"]
    command += ["-o", f"Dir::Cache={UNPACKED / 'cache'}", "-o", "APT::Sandbox::User=root"]
    fetch = ["install", "--download-only", "--reinstall", "--no-install-recommends", package]
    if _has_lists(MACHINE_LISTS) and _apt([*command, *fetch]):
        return True
    lists = UNPACKED / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    command += ["-o", f"Dir::State::lists={lists}"]
    if not _has_lists(lists):
        say("apt-get update   (into .cache/debian: the machine's package lists are missing or old)")
        if not _apt([*command, "-o", "APT::Update::Error-Mode=any", "update"]):
            return False
    return _apt([*command, *fetch])


def _has_lists(directory: Path) -> bool:
    return any(directory.glob("*_Packages*"))


def _drop_lists() -> None:
    """Package lists of our own are large, and old the next time."""
    for directory in (UNPACKED / "lists", UNPACKED / "cache"):
        shutil.rmtree(directory, ignore_errors=True)


# --- as a command -------------------------------------------------------------------------


def ensure() -> None:
    """Both servers; says where they are and how long that took. Stops with one line if not."""
    begun = time.perf_counter()
    try:
        found = [need(REDIS), need(POSTGRES)]
    except NotHere as problem:
        sys.exit(f"cannot set up: {problem}")
    _drop_lists()
    shown = ", ".join(f"{one.name} {one.version} ({one.executable})" for one in found)
    say(f"servers for the tests: {shown} ({time.perf_counter() - begun:.1f} s)")


if __name__ == "__main__":
    ensure()
