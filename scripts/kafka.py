"""A Kafka broker on free ports of loopback, for tests and benchmarks.

    make kafka                       or: python -m scripts.kafka start; stays until stop
    make kafka ARGS="status"         start, status, crash, restart, stop

    from scripts.kafka import start_kafka

    with start_kafka() as kafka:
        Producer({"bootstrap.servers": kafka.bootstrap}).produce(kafka.new_topic(), b"value")

It is Apache Kafka itself where Java (17 or newer) and Maven are: one process, broker and controller
in one (KRaft), a small heap, a temporary folder. Maven gets its files once, into `.cache/kafka`.
Elsewhere it is librdkafka's own mock cluster, which keeps topics in memory: its `crash` stops the
process for a while rather than kill it. `TEST_KAFKA=mock` asks for that one, `TEST_KAFKA=broker`
for nothing but the real one.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from scripts import debian
from scripts.servers import (
    Place,
    Process,
    ServerTrouble,
    forget,
    free_ports,
    remember,
    remembered,
    until,
)

VERSION = "4.1.1"
JARS = debian.CACHE / "kafka" / VERSION
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>afterglow</groupId>
  <artifactId>test-broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
PATIENCE = {"socket.timeout.ms": 5_000, "log_level": 0}


def find_java() -> debian.Found:
    """Java 17 or newer. Raises NotHere."""
    path = shutil.which("java")
    if path is None:
        raise debian.NotHere("Java is not on this machine")
    done = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
    seen = re.search(r'version "(\d+)[^"]*"', done.stderr)
    if seen is None or int(seen[1]) < 17:
        raise debian.NotHere(f"{path} is no Java 17 or newer")
    return debian.Found("java", Path(path), seen[1])


def find_jars() -> Path:
    """The folder with Kafka's files; Maven gets them if need be. Raises NotHere."""
    if (JARS / "complete").exists():
        return JARS
    maven = shutil.which("mvn")
    if maven is None:
        raise debian.NotHere("Maven is not on this machine")
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (JARS / "complete").exists():
            return JARS
        debian.say(f"Maven gets Kafka {VERSION}, into .cache/kafka")
        (JARS / "pom.xml").write_text(POM)
        done = subprocess.run(
            [
                *(maven, "-B", "-q", "-f", JARS / "pom.xml", COPY),
                *(f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise debian.NotHere(f"Maven could not get Kafka {VERSION}: {done.stdout[-800:]}")
        (JARS / "complete").touch()
    return JARS


class Kafka:
    """What both kinds share: topics, and a process that goes away and comes back."""

    kind = ""

    def __init__(self, *, stays: bool = False) -> None:
        self.place = Place("afterglow-kafka", stays=stays)
        self.process = Process(self.place, "kafka")
        self.bootstrap = ""
        self._topics = 0

    def answers(self) -> bool:
        """Whether it says what it has."""
        try:
            return bool(self.admin().list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, **PATIENCE})

    def new_name(self, name: str) -> str:
        self._topics += 1
        return f"{name}-{os.getpid()}-{self._topics}"

    def stop(self) -> None:
        """End it and remove its folder."""
        if self.process.alive():
            self.process.end(signal.SIGKILL)
        self.place.close()
        shutil.rmtree(self.place.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_topic(self, name: str = "test", *, partitions: int = 4, **settings: str) -> str:
        """Make an empty topic of that name and a number; `settings` with _ for each dot."""
        raise NotImplementedError

    def crash(self) -> None:
        """It answers nobody any more, without a word; `start` brings it back with all it had."""
        raise NotImplementedError

    def start(self) -> None:
        """Bring it back, and wait until it answers."""
        raise NotImplementedError

    def reset(self) -> None:
        """Running; what topics there are stays, for each test makes its own."""
        self.start()


class Broker(Kafka):
    """Apache Kafka, broker and controller in one process. Raises NotHere without Java or Maven."""

    kind = f"Apache Kafka {VERSION}"

    def __init__(self, *, stays: bool = False, settings: dict[str, str] | None = None) -> None:
        java, jars = find_java(), find_jars()
        super().__init__(stays=stays)
        self._java, self._jars = java, jars
        self._config = self.place.folder / "server.properties"
        try:
            self._launch_somewhere(settings or {})
        except BaseException:
            self.stop()
            raise

    def saved(self) -> dict[str, Any]:
        """What `again` makes it from in another process."""
        return {
            "folder": str(self.place.folder),
            "bootstrap": self.bootstrap,
            "identity": self.process.identity,
        }

    @classmethod
    def again(cls, saved: dict[str, Any]) -> Self:
        """A broker that was started with `stays`, by another process."""
        broker = cls.__new__(cls)
        broker.place = Place("", stays=True, folder=Path(saved["folder"]))
        pid, born_at = saved["identity"]
        broker.process = Process(broker.place, "kafka", (pid, born_at))
        broker.bootstrap = saved["bootstrap"]
        broker._topics = 0
        broker._java, broker._jars = find_java(), find_jars()
        broker._config = broker.place.folder / "server.properties"
        return broker

    def _launch_somewhere(self, settings: dict[str, str]) -> None:
        """On free ports; on others if somebody took one in between."""
        for _ in range(5):
            port, controller = free_ports(2)
            self.bootstrap = f"127.0.0.1:{port}"
            self._configure(controller, settings)
            self._format()
            try:
                self.start()
            except ServerTrouble as trouble:
                if "in use" not in str(trouble):
                    raise
            else:
                return
            shutil.rmtree(self.place.folder / "logs", ignore_errors=True)
        raise ServerTrouble(f"no free port for Kafka: {self.process.said()}")

    def _configure(self, controller: int, settings: dict[str, str]) -> None:
        """Everything small and by itself: no replicas, no wait for more consumers."""
        values = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.place.folder / "logs"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "500",
            "auto.create.topics.enable": "false",
            **settings,
        }
        self._config.write_text("".join(f"{key}={value}\n" for key, value in values.items()))

    def _words(self, main: str) -> list[str]:
        return [
            *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"),
            *("-cp", f"{self._jars}/*", main),
        ]

    def _format(self) -> None:
        done = subprocess.run(
            [
                self._java.executable,
                *self._words("kafka.tools.StorageTool"),
                *("format", "-t", "YWZ0ZXJnbG93LXRlc3RzLQ", "-c", self._config),
            ],
            cwd=self.place.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerTrouble(f"Kafka's folder could not be made: {done.stdout}{done.stderr}")

    def new_topic(self, name: str = "test", *, partitions: int = 4, **settings: str) -> str:
        topic = self.new_name(name)
        config = {key.replace("_", "."): value for key, value in settings.items()}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
        admin = self.admin()
        admin.create_topics([new])[topic].result(timeout=30)

        def known() -> bool:
            found = admin.list_topics(topic, timeout=5).topics[topic].partitions.values()
            return len(found) == partitions and all(one.leader == 1 for one in found)

        # It is made when the controller says so, and known when the broker does.
        until(known, f"topic {topic} is there")
        return topic

    def crash(self) -> None:
        self.process.end(signal.SIGKILL)

    def start(self) -> None:
        if not self.process.alive():
            self.process.start(self._java, [*self._words("kafka.Kafka"), self._config])
        self.process.wait_for(self.answers, "Kafka answers")


class MockCluster(Kafka):
    """librdkafka's mock cluster of one broker in a process of its own.

    Topics have 4 partitions whatever is asked for, and no settings.
    """

    kind = "librdkafka's mock cluster (no Apache Kafka here)"

    def __init__(self) -> None:
        super().__init__()
        try:
            program = debian.Found("python", Path(sys.executable), "")
            self.process.start(program, [Path(__file__).with_name("kafka_mock.py")])
            log = self.process.log
            self.process.wait_for(lambda: log.read_text().endswith("\n"), "the mock cluster starts")
            self.bootstrap = log.read_text().split()[-1]
            self.start()
        except BaseException:
            self.stop()
            raise

    def new_topic(self, name: str = "test", *, partitions: int = 4, **settings: str) -> str:
        topic = self.new_name(name)
        Producer({"bootstrap.servers": self.bootstrap, **PATIENCE}).list_topics(topic, timeout=30)
        return topic

    def crash(self) -> None:
        self.process.send(signal.SIGSTOP)

    def start(self) -> None:
        self.process.send(signal.SIGCONT)
        self.process.wait_for(self.answers, "the mock cluster answers")


def start_kafka() -> Kafka:
    """A broker where there can be one, else the mock cluster; `kind` says which it is."""
    wanted = os.environ.get("TEST_KAFKA", "")
    if wanted == "mock":
        return MockCluster()
    try:
        return Broker()
    except debian.NotHere as problem:
        if wanted == "broker":
            raise
        debian.say(f"{problem}: tests of Kafka use librdkafka's mock cluster")
        return MockCluster()


# --- as a command -------------------------------------------------------------------------

NAME = "kafka"


def begin() -> None:
    saved = remembered(NAME)
    if saved is not None:
        broker = Broker.again(saved)
        if broker.process.alive():
            tell(broker, "runs already")
            return
        broker.stop()  # the machine was started anew; what is left is a folder
        forget(NAME)
    broker = Broker(stays=True)
    remember(NAME, broker.saved())
    tell(broker, "is up")


def tell(broker: Broker, what: str) -> None:
    print(broker.bootstrap)
    debian.say(f'Kafka {what}; stop it with: make kafka ARGS="stop"')


def main() -> None:
    parser = argparse.ArgumentParser(prog="make kafka", description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["start", "status", "crash", "restart", "stop"])
    arguments = parser.parse_args()
    try:
        if arguments.command == "start":
            begin()
            return
        saved = remembered(NAME)
        if saved is None:
            raise ServerTrouble("no broker runs; start one with: make kafka")
        broker = Broker.again(saved)
        if arguments.command == "stop":
            broker.stop()
            forget(NAME)
            debian.say("Kafka is stopped, its folder removed")
            return
        if arguments.command in ("crash", "restart") and broker.process.alive():
            broker.crash()
        if arguments.command == "restart":
            broker.start()
        remember(NAME, broker.saved())
        tell(broker, "is up" if broker.process.alive() else "is dead (`restart` brings it back)")
    except (ServerTrouble, debian.NotHere) as problem:
        sys.exit(f"kafka: {problem}")


if __name__ == "__main__":
    main()
