"""What a result must say of the machine it came from (and nothing that names the machine)."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-common", "ferret-io", "beaver-db")


def facts() -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {memory()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "peers": ", ".join(f"{name} {v}" for name in PEERS if (v := installed(name))),
        "load at the start": load(),
    }


def commit() -> str:
    """The commit, with a plus where files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain") else "")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{pages * size / 2**30:.0f} GiB"


def load() -> str:
    return " ".join(f"{x:.1f}" for x in os.getloadavg())


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def result_path(facts: dict[str, str]) -> Path:
    """Where a result goes, without its ending."""
    day = facts["date"].partition(" ")[0]
    tag = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    return results / f"{day}-{facts['commit'].rstrip('+')}-{tag.replace('.', '')}"
