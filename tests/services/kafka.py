"""A real Kafka broker (KRaft, one node) on free loopback ports, from the jars that `make jars` copies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, missing
from tests.services.redis import free_port

JARS = REPOSITORY / ".cache" / "jars" / "kafka"
_READY_SECONDS = 60.0


def absent() -> str | None:
    """Why no broker can run here; None where one can."""
    if shutil.which("java") is None:
        return "java (Debian package openjdk-17-jre-headless) is not installed"
    if not (JARS / ".copied").exists():
        return "the broker's jars are not there: run `make jars`"
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        return "confluent-kafka is not installed (extra kafka)"
    return None


@dataclass
class Broker:
    """One broker with its own folder; it can be killed and started again on the same ports."""

    folder: Path
    port: int = field(default_factory=free_port)
    controller: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def format(self) -> None:
        """Writes the properties and makes the log folder, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            "auto.create.topics.enable": "false",
            "broker.session.timeout.ms": 2000,  # a killed broker comes back under its own id at once
            "broker.heartbeat.interval.ms": 500,
        }
        lines = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.folder / "server.properties").write_text(lines)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c")
        done = subprocess.run(
            [*command, str(self.folder / "server.properties")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _java(self, main: str, *arguments: str) -> list[str]:
        memory = ["-Xmx384m", "-Xms256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *memory, "-cp", f"{JARS}/*", main, *arguments]

    def start(self) -> None:
        """Starts the process and waits until it answers."""
        log = (self.folder / "broker.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")), stdout=log, stderr=log
            )
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until:
            assert self._process.poll() is None, (self.folder / "broker.log").read_text()[-3000:]
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=0.2):
                    pass
                AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=1)
            except (OSError, KafkaException):
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the broker does not answer")

    def kill(self) -> None:
        """As a machine that loses power, but for its page cache."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In good order; by force where it does not end."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def caught_up(address: str, topic: str, group: str) -> bool:
    """Whether a group has committed everything that a topic holds; False too while the broker cannot say."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    client = Consumer({"bootstrap.servers": address, "group.id": group, "isolation.level": "read_committed"})
    try:
        places = [TopicPartition(topic, one) for one in client.list_topics(topic, timeout=10).topics[topic].partitions]
        ends = [client.get_watermark_offsets(one, timeout=10)[1] for one in places]
        committed = [max(one.offset, 0) for one in client.committed(places, timeout=10)]
    except KafkaException:
        return False
    else:
        return committed == ends
    finally:
        client.close()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests of a process; who kills it starts it again."""
    why = absent()
    if why is not None:
        missing(why)
    made = Broker(tmp_path_factory.mktemp("kafka"))
    made.format()
    made.start()
    yield made
    made.stop()
