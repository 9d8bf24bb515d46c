"""Make the virtual environments that the Makefile needs, and say what that does.

    python3 scripts/environments.py                 one for every Python 3.11 to 3.13 found here
    python3 scripts/environments.py 3.13            one for that
    python3 scripts/environments.py --newest        the newest found; prints where, last
    python3 scripts/environments.py --with bench    one more, with the dependency group `bench`

The environment of Python 3.X is `.venv/3.X` (`.venv/3.X-bench`); a stamp in it makes the second
time fast. Needs the standard library only. Packages come from wherever this machine's pip gets
them, in the versions of `constraints.txt`: by uv, or by pip where uv cannot.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import debian  # beside this file

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
WANTED = ("3.11", "3.12", "3.13")
UV = "uv>=0.5"
# Trust what this machine trusts, as pip does; take the Pythons that are here.
UV_ENVIRONMENT = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}


def say(text: str) -> None:
    print(f"-- {text}", flush=True)


def stop(text: str) -> None:
    sys.exit(f"cannot set up: {text}")


# --- which Pythons are here -------------------------------------------------------------


def candidates(version: str) -> Iterator[Path]:
    """Where Python 3.X may be: on the path, in pyenv, in the usual directories, or us."""
    name = f"python{version}"
    for directory in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]:
        # access() says no, and raises nothing, for directories that we may not look into.
        if directory and os.access(Path(directory) / name, os.X_OK):
            yield Path(directory) / name
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    if os.access(pyenv, os.R_OK | os.X_OK):
        yield from sorted(pyenv.glob(f"{version}.*/bin/{name}"), key=_by_patch, reverse=True)
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        yield Path(sys.executable)


def _by_patch(python: Path) -> list[int]:
    return [int(part) if part.isdigit() else -1 for part in python.parent.parent.name.split(".")]


def interpreter(version: str) -> Path | None:
    """A Python 3.X that runs and has SQLite, or None."""
    check = "import sys, sqlite3, ssl, zlib; print(sys.executable, '%d.%d' % sys.version_info[:2])"
    for python in candidates(version):
        # A pyenv shim is there and fails for versions that are not switched on.
        done = subprocess.run(
            [python, "-I", "-c", check],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        executable, _, seen = done.stdout.strip().rpartition(" ")
        if done.returncode == 0 and seen == version:
            return Path(executable)
    return None


# --- uv and pip ---------------------------------------------------------------------------


def run(command: list[str | Path], env: dict[str, str] | None = None) -> bool:
    """Run it quietly; where it fails, show what it said."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    return done.returncode == 0


def works(command: list[str | Path]) -> bool:
    try:
        return (
            subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        )
    except OSError:
        return False


def pip() -> list[str | Path]:
    """A command that is pip. Debian's python3 comes without: then apt has one, even as no root."""
    plain: list[str | Path] = [sys.executable, "-m", "pip"]
    if works([*plain, "--version"]):
        return plain
    own = CACHE / "pip" / "bin" / "python"
    if not works([own, "-m", "pip", "--version"]) and works(
        [sys.executable, "-c", "import ensurepip"]
    ):
        say("python3 -m venv .cache/pip   (this Python has no pip of its own)")
        run([sys.executable, "-m", "venv", own.parent.parent])
    if works([own, "-m", "pip", "--version"]):
        return [own, "-m", "pip"]
    return _pip_of_debian()


def _pip_of_debian() -> list[str | Path]:
    """Debian's pip as one file, taken out of its package; nothing is installed on the machine."""
    wheels = debian.UNPACKED / "usr" / "share" / "python-wheels"
    if not list(wheels.glob("pip-*.whl")):
        if not debian.has_apt():
            stop("this Python has neither pip nor ensurepip; install one of them and try again")
        say("this Python has neither pip nor ensurepip")
        if not debian.unpack("python3-pip-whl"):
            stop("python3 has no pip; as root: apt-get update && apt-get install python3-venv")
    (wheel, *_) = wheels.glob("pip-*.whl")
    return [sys.executable, wheel / "pip"]


def uv() -> Path | None:
    """uv, installed into .cache/uv by pip unless it is there; None where pip cannot get it."""
    command = CACHE / "uv" / "bin" / "uv"
    if works([command, "--version"]):
        return command
    say(f"pip install --target .cache/uv '{UV}'")
    arguments = ["install", "--quiet", "--disable-pip-version-check", "--target"]
    return (
        command
        if run([*pip(), *arguments, CACHE / "uv", UV]) and works([command, "--version"])
        else None
    )


# --- environments -------------------------------------------------------------------------


def stamp_of(python: Path, groups: list[str]) -> str:
    """What an environment was made from: it is made anew when this changes."""
    digest = hashlib.sha256(f"{ROOT}{python}{sorted(groups)}{python.stat().st_mtime_ns}".encode())
    for name in ("pyproject.toml", "constraints.txt", "scripts/environments.py"):
        digest.update((ROOT / name).read_bytes() if (ROOT / name).exists() else b"-")
    return digest.hexdigest()


def make(version: str, python: Path, groups: list[str]) -> Path:
    """The interpreter of an up-to-date environment `.venv/3.X`."""
    home = ROOT / ".venv" / "-".join([version, *groups[1:]])
    inside, stamp = home / "bin" / "python", home / "afterglow.stamp"
    wanted = stamp_of(python, groups)
    if stamp.exists() and stamp.read_text() == wanted and works([inside, "-c", "import msgspec"]):
        return inside
    begun = time.perf_counter()
    packages = f"afterglow[all] and {', '.join(groups)}"
    say(f"{home.relative_to(ROOT)} from {python}: installing {packages} ...")
    if not _by_uv(home, python, groups) and not _by_pip(home, python, groups):
        stop(f"the packages for Python {version} could not be installed (see above)")
    stamp.write_text(wanted)
    say(f"{home.relative_to(ROOT)} is ready ({time.perf_counter() - begun:.1f} s)")
    return inside


def install(home: Path, python: Path, requirements: list[str]) -> Path:
    """The interpreter of an environment with just these packages (demo.py wants one)."""
    inside, stamp = home / "bin" / "python", home / "afterglow.stamp"
    wanted = stamp_of(python, requirements)
    if stamp.exists() and stamp.read_text() == wanted and works([inside, "-c", "pass"]):
        return inside
    shutil.rmtree(home, ignore_errors=True)
    CACHE.mkdir(exist_ok=True)
    command = uv()
    done = command is not None and (
        run([command, "venv", "--quiet", "--python", python, home], UV_ENVIRONMENT)
        and run(
            [command, "pip", "install", "--quiet", "--python", inside, *requirements],
            UV_ENVIRONMENT,
        )
    )
    if not done:
        shutil.rmtree(home, ignore_errors=True)
        if not run([python, "-m", "venv", "--without-pip", home]) or not run(
            [*pip(), "--python", inside, "install", "--quiet", *requirements]
        ):
            stop(f"could not install {', '.join(requirements)} (see above)")
    stamp.write_text(wanted)
    return inside


def _by_uv(home: Path, python: Path, groups: list[str]) -> bool:
    command = uv()
    if command is None:
        return False
    shutil.rmtree(home, ignore_errors=True)
    install = [command, "pip", "install", "--quiet", "--python", home / "bin" / "python"]
    if run([command, "venv", "--quiet", "--python", python, home], UV_ENVIRONMENT) and run(
        [*install, *_wanted(groups)], UV_ENVIRONMENT
    ):
        return True
    say("uv could not; trying pip")
    return False


def _by_pip(home: Path, python: Path, groups: list[str]) -> bool:
    shutil.rmtree(home, ignore_errors=True)
    if not run([python, "-m", "venv", "--without-pip", home]):
        return False
    install = [*pip(), "--python", home / "bin" / "python", "install", "--quiet"]
    return run([*install, *_wanted(groups)])


def _wanted(groups: list[str]) -> list[str | Path]:
    """What to install, for uv and pip alike, in the versions of constraints.txt."""
    import tomllib  # not at the top: an older Python must get as far as our message

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [need for group in groups for need in project["dependency-groups"][group]]
    return ["--constraint", ROOT / "constraints.txt", "--editable", f"{ROOT}[all]", *named]


def environments(
    versions: list[str], groups: list[str], *, newest: bool = False
) -> dict[str, Path]:
    """The interpreters of up-to-date environments by version; stops where there is none."""
    if sys.version_info < (3, 11):  # noqa: UP036  whoever calls us may be older
        stop(f"python3 is {sys.version.split()[0]}; Afterglow needs 3.11 or newer")
    if unknown := set(versions) - set(WANTED):
        stop(f"Python {', '.join(sorted(unknown))}: it takes {', '.join(WANTED)}")
    wanted = versions or WANTED
    found = {version: interpreter(version) for version in wanted}
    here = {version: python for version, python in found.items() if python is not None}
    if not here:
        stop(f"no Python {', '.join(wanted)} with SQLite is on this machine")
    if newest:
        here = dict([max(here.items(), key=lambda item: WANTED.index(item[0]))])
    elif missing := [version for version in wanted if version not in here]:
        say(f"not on this machine, left out: Python {', '.join(missing)}")
    CACHE.mkdir(exist_ok=True)
    return {version: make(version, python, groups) for version, python in here.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("versions", nargs="*", help="3.11 ...; all that are here by default")
    parser.add_argument("--newest", action="store_true", help="only the newest that is here")
    parser.add_argument("--with", action="append", default=[], dest="groups", metavar="GROUP")
    arguments = parser.parse_args()
    groups = ["dev", *arguments.groups]
    made = environments(arguments.versions, groups, newest=arguments.newest)
    if arguments.newest:
        print(*made.values())


if __name__ == "__main__":
    main()
