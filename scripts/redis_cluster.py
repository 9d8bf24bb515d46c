"""A Redis Cluster of six processes on loopback: three masters, a replica each.

    from scripts.redis_cluster import RedisCluster

    with RedisCluster() as cluster:
        client = redis.RedisCluster(startup_nodes=cluster.startup_nodes())
        dead = cluster.kill(cluster.masters()[0])
        cluster.wait_promoted(dead)
        cluster.restart(dead)

Tests, benchmarks and `make cluster` (scripts/cluster_command.py) use it alike. It is up in some
two seconds: the nodes are given their table of each other (`nodes.conf`) instead of being
introduced. What waits, asks again and again until a deadline, then raises ServerTrouble.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis
from redis.cluster import ClusterNode as Address
from redis.crc import key_slot

from scripts.cluster_node import ClusterNode
from scripts.redis_server import RedisNode, SingleRedis, start_together
from scripts.servers import Place, ServerTrouble, until
from scripts.slots import SlotMove, shares

__all__ = ["ClusterNode", "RedisCluster", "ServerTrouble", "SingleRedis", "SlotMove"]

MASTERS = 3
NODES = 2 * MASTERS


class RedisCluster:
    """Three masters with a replica each; a context manager.

    Args: `maxmemory` of each node ("0": no limit; "64mb"); `node_timeout_ms`, after which a node
    that does not answer is held for dead: an election takes about this and one second more;
    `appendonly`, so that a node that comes back has its keys; `full_coverage=False` lets the
    other masters go on while one is gone; `settings`, any of redis.conf.
    """

    def __init__(
        self,
        *,
        maxmemory: str = "0",
        node_timeout_ms: int = 2_000,
        appendonly: bool = False,
        full_coverage: bool = True,
        settings: dict[str, str] | None = None,
        stays: bool = False,
    ) -> None:
        self.settings = {
            "maxmemory": maxmemory,
            "appendonly": "yes" if appendonly else "no",
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(node_timeout_ms),
            "cluster-require-full-coverage": "yes" if full_coverage else "no",
            # A replica tries however old its keys are, and stays with its master.
            "cluster-replica-validity-factor": "0",
            "cluster-allow-replica-migration": "no",
            **(settings or {}),
        }
        self.place = Place("afterglow-cluster", stays=stays)
        self.nodes: list[ClusterNode] = []
        try:
            start_together(self._make, 2 * NODES)
            self.wait_until_ok()
        except BaseException:
            self.stop()
            raise

    def saved(self) -> dict[str, Any]:
        """What `again` makes it from in another process."""
        return {
            "folder": str(self.place.folder),
            "settings": self.settings,
            "nodes": [[n.name, n.port, n.bus_port, n.process.identity] for n in self.nodes],
        }

    @classmethod
    def again(cls, saved: dict[str, Any]) -> Self:
        """A cluster that was started with `stays`, by another process."""
        cluster = cls.__new__(cls)
        cluster.settings = dict(saved["settings"])
        cluster.place = Place("", stays=True, folder=Path(saved["folder"]))
        cluster.nodes = [
            ClusterNode(cluster.place, name, port, bus_port, (identity[0], identity[1]))
            for name, port, bus_port, identity in saved["nodes"]
        ]
        for node in cluster.nodes:
            node.settings = cluster._settings_of(node)
        return cluster

    def _settings_of(self, node: ClusterNode) -> dict[str, str]:
        return {**self.settings, "cluster-port": str(node.bus_port)}

    def _make(self, ports: list[int]) -> Sequence[RedisNode]:
        """Six nodes that know each other already."""
        self.nodes = [
            ClusterNode(self.place, f"node-{number}", ports[2 * number], ports[2 * number + 1])
            for number in range(NODES)
        ]
        for node in self.nodes:
            node.settings = self._settings_of(node)
            lines = []
            for number, other in enumerate(self.nodes):
                flags = "myself," if other is node else ""
                where = f"{other.node_id} {other.address}@{other.bus_port}"
                if number < MASTERS:
                    share = shares(MASTERS)[number]
                    role = f"{flags}master - 0 0 {number + 1} connected {share[0]}-{share[-1]}"
                else:
                    master = self.nodes[number - MASTERS]
                    role = f"{flags}slave {master.node_id} 0 0 {number - MASTERS + 1} connected"
                lines.append(f"{where} {role}\n")
            lines.append(f"vars currentEpoch {MASTERS} lastVoteEpoch 0\n")
            folder = self.place.folder / node.name
            folder.mkdir(exist_ok=True)
            (folder / "nodes.conf").write_text("".join(lines))
        return self.nodes

    # --- who is who -----------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """`host:port` of all six, running or not."""
        return [node.address for node in self.nodes]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(self.addresses)}"

    def startup_nodes(self) -> list[Address]:
        """For redis.RedisCluster(startup_nodes=...)."""
        return [Address("127.0.0.1", node.port) for node in self.nodes]  # type: ignore[no-untyped-call]

    def client(self, **options: Any) -> redis.RedisCluster:
        """A client of redis-py for the cluster; close it."""
        return redis.RedisCluster(startup_nodes=self.startup_nodes(), **options)

    def there(self) -> list[ClusterNode]:
        """The nodes that run and are not paused."""
        return [node for node in self.nodes if node.there()]

    def masters(self) -> list[ClusterNode]:
        """Those that hold themselves for masters now."""
        return [node for node in self.there() if node.is_master()]

    def replicas(self, of: ClusterNode | None = None) -> list[ClusterNode]:
        """The replicas, or those of one master."""
        seen = [(node, node.itself()) for node in self.there()]
        return [
            node
            for node, itself in seen
            if not itself.is_master and (of is None or itself.master_id == of.node_id)
        ]

    def master_of(self, key: str | bytes) -> ClusterNode:
        """The master that a key is on. Raises ServerTrouble if there is none now."""
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        for node in self.masters():
            if slot in node.slots():
                return node
        raise ServerTrouble(f"no master has slot {slot} now")

    # --- trouble --------------------------------------------------------------------------

    def kill(self, node: ClusterNode, sign: signal.Signals = signal.SIGKILL) -> ClusterNode:
        """End a node and give it back: wait_promoted(it), restart(it)."""
        node.heirs = self.replicas(node)
        node.kill(sign)
        return node

    def pause(self, node: ClusterNode) -> ClusterNode:
        """SIGSTOP: it answers nothing, its connections stay open; after the node timeout its
        replica takes over. resume(it)."""
        node.heirs = self.replicas(node)
        node.pause()
        return node

    def resume(self, node: ClusterNode) -> None:
        node.resume()

    def restart(self, node: ClusterNode) -> None:
        """Start a node again. A master that is back before its replica took over is empty, unless
        the cluster is `appendonly`, and its replica becomes empty after it."""
        node.paused = False
        node.restart()

    def wait_promoted(self, gone: ClusterNode) -> ClusterNode:
        """Wait until a replica of a master that was killed or paused is master in its place, and
        the cluster ok with it; that replica."""
        new: list[ClusterNode] = []

        def promoted() -> bool:
            new[:] = [node for node in gone.heirs if node.there() and node.is_master()]
            return bool(new)

        if not gone.heirs:
            raise ServerTrouble(f"{gone.name} had no replica when it went: nothing takes over")
        until(promoted, f"a replica takes over from {gone.name}")
        self.wait_until_ok()
        return new[0]

    def failover(self, node: ClusterNode, how: str = "") -> ClusterNode:
        """Have a replica (or the replica of a master) take over while all run, and wait for it;
        the new master. `how`: "FORCE", "TAKEOVER", or "" for the orderly way."""
        chosen = self.replicas(node)[0] if node.is_master() else node
        until(lambda: chosen.info("replication")["master_link_status"] == "up", "it is in sync")
        chosen.ask("CLUSTER FAILOVER", *([how] if how else []))
        until(chosen.is_master, f"{chosen.name} takes over")
        self.wait_until_ok()
        return chosen

    # --- slots ----------------------------------------------------------------------------

    def move(
        self, slots: int | Sequence[int], source: ClusterNode, target: ClusterNode
    ) -> SlotMove:
        """A move in steps: begin(), migrate(most), finish(). A number takes the first so many."""
        if isinstance(slots, int):
            slots = sorted(source.slots())[:slots]
        return SlotMove(self, slots, source, target)

    def move_slots(
        self, slots: int | Sequence[int], source: ClusterNode, target: ClusterNode
    ) -> int:
        """Move slots with their keys, all at once; how many keys."""
        move = self.move(slots, source, target)
        move.begin()
        return move.finish()

    # --- waiting --------------------------------------------------------------------------

    def trouble(self) -> str | None:
        """Why the cluster is not ok for those who run, or None: all agree, replicas in sync."""
        there = self.there()
        views = set()
        for node in there:
            try:
                state = node.ask("CLUSTER INFO")
                replication = node.info("replication")
                table = node.table()
            except redis.RedisError as error:
                return f"{node.name}: {error}"
            if state["cluster_state"] != "ok":
                return f"{node.name} says cluster_state:{state['cluster_state']}"
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return f"{node.name} is not in sync with its master"
            seen = [table.get(other.node_id) for other in there]
            if any(one is None or one.failed or not one.connected for one in seen):
                return f"{node.name} does not see all others"
            views.add(frozenset((s.node_id, s.is_master, s.master_id, s.slots) for s in seen if s))
        return "the nodes do not agree" if len(views) > 1 else None

    def wait_until_ok(self) -> None:
        """Wait until every node that runs is ok, agrees with the others, and is in sync."""
        last: list[str | None] = [None]

        def fine() -> bool:
            last[0] = self.trouble()
            return last[0] is None

        try:
            until(fine, "the cluster is ok")
        except ServerTrouble as late:
            raise ServerTrouble(f"{late}: {last[0]}") from None

    # --- all nodes ------------------------------------------------------------------------

    def script_flush(self) -> None:
        """All nodes forget all scripts."""
        for node in self.there():
            node.script_flush()

    def flush_all(self) -> None:
        """All masters, so all, forget all keys."""
        for node in self.masters():
            node.flush_all()

    def resetstat(self) -> None:
        """Command statistics and slow logs start from nothing."""
        for node in self.there():
            node.resetstat()

    def keys(self, pattern: str = "*") -> list[bytes]:
        """All keys of all masters, sorted."""
        return sorted(key for node in self.masters() for key in node.keys(pattern))

    def reset(self) -> None:
        """As at the start, whatever was done to it: six running nodes, no keys, no scripts, slots
        in thirds. Cheap when nothing was done; masters and replicas may have changed places."""
        for node in self.nodes:
            node.resume()
            if not node.alive():
                node.restart()
        self.wait_until_ok()
        for node in self.there():
            node.forget()
        self._share_slots()

    def _share_slots(self) -> None:
        """Give the slots, which hold no keys now, to the masters in thirds."""
        masters = self.masters()
        moving = {node: node.itself().moving for node in masters}
        for node, slots in moving.items():
            for slot in slots:
                node.ask("CLUSTER SETSLOT", slot, "STABLE")
        owned = {node: node.slots() for node in masters}
        for share in shares(MASTERS):
            target = max(masters, key=lambda node: len(owned[node].intersection(share)))
            masters.remove(target)
            for source in owned:
                wrong = owned[source].intersection(share)
                if source is not target and wrong:
                    self.move_slots(sorted(wrong), source, target)

    def stop(self) -> None:
        """End all nodes and remove their folder."""
        for node in self.nodes:
            if node.alive():
                node.kill()
            node.client.close()
        self.place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
