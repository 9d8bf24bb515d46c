"""Node's OpenTelemetry exporters, installed into `.cache/` by the lock file of tests/peers/node/.

    python3 scripts/node_exporters.py        install them (npm ci); says where they are

The second time nothing is done. Needs Node 18 or newer with npm; the standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "tests" / "peers" / "node"
HOME = ROOT / ".cache" / "node-peers"
LEAST = 18


class NoNode(RuntimeError):
    """There is no Node here; the message says what was looked for."""


def node() -> str:
    """The path of Node. Raises NoNode."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        raise NoNode(f"Node {LEAST} or newer with npm is not on this machine (PATH has none)")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    version = said.stdout.strip().lstrip("v")
    if int(version.partition(".")[0]) < LEAST:
        raise NoNode(f"Node {version} is too old: these exporters need {LEAST} or newer")
    return found


def install() -> Path:
    """Where `send.mjs` can be run. Raises NoNode, and RuntimeError where npm fails."""
    node()
    wanted = hashlib.sha256((PEER / "package-lock.json").read_bytes()).hexdigest()
    HOME.mkdir(parents=True, exist_ok=True)
    stamp = HOME / "installed"
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may ask at once
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(PEER / name, HOME / name)
            _npm_ci()
            stamp.write_text(wanted)
        # Modules are looked for beside the program.
        program = (PEER / "send.mjs").read_bytes()
        if not (HOME / "send.mjs").exists() or (HOME / "send.mjs").read_bytes() != program:
            (HOME / "send.mjs").write_bytes(program)
    return HOME


def _npm_ci() -> None:
    # Nothing that a package brings is run while it is installed.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        command,
        cwd=HOME,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")


if __name__ == "__main__":
    try:
        print(f"-- Node's exporters: {install()}")
    except (NoNode, RuntimeError) as problem:
        sys.exit(f"cannot set up: {problem}")
