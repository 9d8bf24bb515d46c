"""A Redis Cluster on loopback to try things on: six processes that stay until `stop`.

    make cluster                            or: python -m scripts.cluster start
    make cluster ARGS="status"              start, status, stop, kill-master, restart, fill, free,
                                            move-slots, flush

Nodes are numbered 0 to 5, as `status` shows them. `start --foreground` runs until Ctrl-C instead.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable

from scripts.debian import NotHere, say
from scripts.redis_cluster import ClusterNode, RedisCluster
from scripts.servers import ServerTrouble, forget, remember, remembered
from scripts.slots import as_ranges

NAME = "cluster"
ENDING = {signal.SIGINT, signal.SIGTERM}


def start(arguments: argparse.Namespace) -> None:
    saved = remembered(NAME)
    if saved is not None:
        cluster = RedisCluster.again(saved)
        if any(node.alive() for node in cluster.nodes):
            tell(cluster, "runs already")
            return
        cluster.stop()  # the machine was started anew; what is left is a folder
        forget(NAME)
    begun = time.perf_counter()
    cluster = RedisCluster(
        maxmemory=arguments.maxmemory,
        node_timeout_ms=arguments.node_timeout_ms,
        appendonly=arguments.appendonly,
        stays=not arguments.foreground,
    )
    took = time.perf_counter() - begun
    if arguments.foreground:
        with cluster:
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            print(f"{cluster.url}\n-- up in {took:.1f} s; Ctrl-C stops it", flush=True)
            signal.sigwait(ENDING)
        return
    remember(NAME, cluster.saved())
    tell(cluster, f"is up in {took:.1f} s")


def tell(cluster: RedisCluster, what: str) -> None:
    print(cluster.url)
    say(f'the cluster {what}; stop it with: make cluster ARGS="stop"')


def status(cluster: RedisCluster, _: argparse.Namespace) -> None:
    print(cluster.url)
    print(f"{'node':<5}{'address':<17}{'process':<9}{'role':<9}{'keys':>8}{'MiB':>8}  slots")
    for number, node in enumerate(cluster.nodes):
        if not node.alive():
            print(f"{number:<5}{node.address:<17}{'-':<9}{'dead':<9}")
            continue
        itself = node.itself()
        role = "master" if itself.is_master else "replica"
        runs = [f"{low}-{high}" for low, high in as_ranges(node.slots())]
        of = [str(n) for n, other in enumerate(cluster.nodes) if other.node_id == itself.master_id]
        where = ", ".join(runs) or f"of node {', '.join(of)}"
        full = "  FULL" if node.is_full() else ""
        memory = node.used_memory_bytes() / 2**20
        print(
            f"{number:<5}{node.address:<17}{node.pid:<9}{role:<9}{node.client.dbsize():>8}"
            f"{memory:>8.1f}  {where}{full}"
        )
    say(cluster.trouble() or "ok")


def stop(cluster: RedisCluster, _: argparse.Namespace) -> None:
    cluster.stop()
    forget(NAME)
    say("the cluster is stopped, its folder removed")


def kill_master(cluster: RedisCluster, arguments: argparse.Namespace) -> None:
    number = arguments.node
    masters = cluster.masters()
    node = masters[0] if number is None else chosen(cluster, number)
    if node not in masters:
        raise ServerTrouble(f"node {number} is no master now (see status)")
    cluster.kill(node)
    begun = time.perf_counter()
    say(f"killed {node.name} ({node.address}); waiting for its replica to take over")
    new = cluster.wait_promoted(node)
    say(f"{new.name} ({new.address}) took over after {time.perf_counter() - begun:.1f} s")


def restart(cluster: RedisCluster, _: argparse.Namespace) -> None:
    for node in cluster.nodes:
        if not node.alive():
            cluster.restart(node)
            say(f"{node.name} is back")
    cluster.wait_until_ok()
    say("ok")


def fill(cluster: RedisCluster, arguments: argparse.Namespace) -> None:
    for node in some_masters(cluster, arguments.node):
        limited = int(node.info("memory")["maxmemory"]) > 0
        filled = node.fill_memory(lower=not limited)
        say(f"{node.name} ({node.address}): {filled:,} bytes of ours, and it refuses more")


def free(cluster: RedisCluster, arguments: argparse.Namespace) -> None:
    for node in some_masters(cluster, arguments.node):
        node.free_memory()
        say(f"{node.name} ({node.address}) takes writes again")


def move_slots(cluster: RedisCluster, arguments: argparse.Namespace) -> None:
    source, target = (chosen(cluster, number) for number in (arguments.source, arguments.target))
    masters = cluster.masters()
    if source is target or source not in masters or target not in masters:
        raise ServerTrouble("slots move from one master to another (see status)")
    keys = cluster.move_slots(arguments.count, source, target)
    say(f"moved {arguments.count} slots with {keys} keys from {source.name} to {target.name}")


def flush(cluster: RedisCluster, _: argparse.Namespace) -> None:
    cluster.flush_all()
    cluster.script_flush()
    say("no keys, no scripts")


def chosen(cluster: RedisCluster, number: int) -> ClusterNode:
    if not 0 <= number < len(cluster.nodes):
        raise ServerTrouble(f"node {number}: it takes 0 to {len(cluster.nodes) - 1}")
    node = cluster.nodes[number]
    if not node.alive():
        raise ServerTrouble(f"node {number} is dead: `restart` brings it back")
    return node


def some_masters(cluster: RedisCluster, number: int | None) -> list[ClusterNode]:
    return cluster.masters() if number is None else [chosen(cluster, number)]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="make cluster", description=__doc__.partition("\n")[0])
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, does: Callable[[RedisCluster, argparse.Namespace], None] | None, text: str
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(does=does)
        return one

    begin = command("start", None, "start it and print its URL")
    begin.add_argument("--foreground", action="store_true", help="run until Ctrl-C")
    begin.add_argument("--maxmemory", default="0", help="of each node, like 64mb; 0: no limit")
    begin.add_argument("--node-timeout-ms", type=int, default=2_000)
    begin.add_argument("--appendonly", action="store_true", help="a node that dies keeps its keys")
    command("status", status, "who is who, how full, how many keys")
    command("stop", stop, "end it and remove its folder")
    command("restart", restart, "start the nodes that are dead")
    command("flush", flush, "remove all keys and scripts")
    for name, does, text in (
        ("kill-master", kill_master, "kill -9 a master (the first), wait for its replica"),
        ("fill", fill, "fill a master's memory (all masters'), until it refuses writes"),
        ("free", free, "undo fill"),
    ):
        command(name, does, text).add_argument("node", type=int, nargs="?")
    move = command("move-slots", move_slots, "move slots with their keys: COUNT FROM TO")
    for name, value in (("count", 100), ("source", 0), ("target", 1)):
        move.add_argument(name, type=int, nargs="?", default=value)
    return found


def main() -> None:
    arguments = parser().parse_args()
    try:
        if arguments.does is None:
            start(arguments)
            return
        saved = remembered(NAME)
        if saved is None:
            raise ServerTrouble("no cluster runs; start one with: make cluster")
        cluster = RedisCluster.again(saved)
        try:
            arguments.does(cluster, arguments)
        finally:
            if remembered(NAME) is not None:
                remember(NAME, cluster.saved())
    except (ServerTrouble, NotHere) as problem:
        sys.exit(f"cluster: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
