"""The broker's client, confluent-kafka: where it is, which topics there are, and records that are committed.

Errors of the client become ours at this border; none holds a configuration value.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ml_platform.core.errors import NotFound, PlatformError, ServerUnavailable, SettingsError
from ml_platform.serving.stream.topics import Place, Topics

if TYPE_CHECKING:
    from confluent_kafka import Consumer

__all__ = ["Connection", "KafkaLog", "Message", "TopicAdmin", "publish", "unavailable"]

_SECONDS: Final = 10.0
_SPARE_BYTES: Final = 1 << 20  # a dead letter's headers, a record's header and salt beside the event's own bytes
_DEFAULTS: Final[Mapping[str, Any]] = {
    "log_level": 0,
    # A client that forgets its brokers when all are away never ends a send_offsets_to_transaction that it was in.
    "metadata.recovery.strategy": "none",
    "reconnect.backoff.max.ms": 1_000,
    "session.timeout.ms": 6_000,
    "transaction.timeout.ms": 10_000,
}


@dataclass(frozen=True)
class Connection:
    """How to reach the brokers.

    Args:
        servers: ``host:port``, comma-separated.
        options: further properties of librdkafka, such as ``security.protocol``; may hold secrets, never shown.
    """

    servers: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def properties(self, **more: Any) -> dict[str, Any]:
        """The configuration of a client; ``a_b`` stands for ``a.b``."""
        named = {name.replace("_", "."): value for name, value in more.items()}
        return {**_DEFAULTS, **self.options, "bootstrap.servers": self.servers, **named}


@dataclass(frozen=True, slots=True)
class Message:
    """A committed message of one partition."""

    offset: int
    key: bytes | None
    value: bytes | None


def _raw(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def unavailable(doing: str, error: Any) -> ServerUnavailable:
    """The brokers cannot do something now; ``error`` is the client's."""
    name = getattr(error.args[0], "name", None) if getattr(error, "args", ()) else None
    what = name() if callable(name) else type(error).__name__
    return ServerUnavailable(
        f"{doing} failed ({what}); nothing was half-done.",
        field="kafka",
        next_step="Check the setting `kafka` and the brokers, then run it again.",
    )


def _patiently(doing: str, call: Callable[[], Any]) -> Any:
    """The answer to a question that may be asked again: a partition may have no leader for a moment.

    Raises:
        ServerUnavailable: it is not answered for some seconds.
    """
    from confluent_kafka import KafkaError, KafkaException

    moment = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001
    until = time.monotonic() + _SECONDS
    while True:
        try:
            return call()
        except KafkaException as error:
            again = error.args[0].retriable() or error.args[0].code() in moment
            if not again or time.monotonic() > until:
                raise unavailable(doing, error) from None
            time.sleep(0.1)


class TopicAdmin:
    """Makes and describes the topics of models."""

    def __init__(self, connection: Connection) -> None:
        from confluent_kafka.admin import AdminClient

        self._client = AdminClient(connection.properties())

    def create(self, topics: Topics, *, partitions: int, replication: int) -> list[str]:
        """Makes the topics that are not there; the names of those that it made.

        Raises:
            ServerUnavailable: the brokers cannot be reached, or refuse.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

        try:
            there = self._client.list_topics(timeout=_SECONDS).topics
            most = 1_048_588
            config: dict[str, dict[str, str]] = {
                topics.events: {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(most)},
                topics.decisions: {},
                topics.predictions: {"retention.ms": "-1", "max.message.bytes": str(most + _SPARE_BYTES)},
                topics.dead_letters: {"max.message.bytes": str(most + _SPARE_BYTES)},
                topics.control: {"retention.ms": "-1"},  # and not compacted: a forged message must erase no true one
            }
            new = [
                NewTopic(name, 1 if name == topics.control else partitions, replication, config=some)
                for name, some in config.items()
                if name not in there
            ]
            for made in (self._client.create_topics(new) if new else {}).values():
                made.result()
        except KafkaException as error:
            raise unavailable("Making the topics", error) from None
        return [one.topic for one in new]

    def place(self, topics: Topics) -> tuple[Place, int]:
        """Where a model's events lie, and in how many partitions; everything that a worker needs is checked.

        Raises:
            NotFound: a topic is not there.
            SettingsError: a topic is not made as a worker needs it.
            ServerUnavailable: the brokers cannot be reached.
        """
        from confluent_kafka import KafkaException, TopicCollection

        names = [topics.events, *topics.written, topics.control]
        try:
            cluster = str(self._client.list_topics(timeout=_SECONDS).cluster_id)
            described = {
                name: made.result()
                for name, made in self._client.describe_topics(TopicCollection(names), request_timeout=_SECONDS).items()
            }
            self._require_append_time(topics.events)
        except KafkaException as error:
            raise self._absent(error) from None
        partitions = len(described[topics.events].partitions)
        few = [name for name in topics.written if len(described[name].partitions) < partitions]
        if few:
            raise SettingsError(
                "A topic has fewer partitions than the topic of the events.",
                field=few[0],
                next_step=f"Give it {partitions}: a record lies in the partition of its event.",
            )
        uuid = base64.urlsafe_b64decode(str(described[topics.events].topic_id) + "==").hex()
        return Place(cluster, uuid), partitions

    def _require_append_time(self, topic: str) -> None:
        from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

        (made,) = self._client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        if made.result()["message.timestamp.type"].value != "LogAppendTime":
            raise SettingsError(
                "The topic's times are those that producers say.",
                field=topic,
                next_step="Set message.timestamp.type=LogAppendTime: decided_at comes from it.",
            )

    @staticmethod
    def _absent(error: Any) -> PlatformError:
        from confluent_kafka import KafkaError

        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return NotFound(
                "A topic of the model is not there.", field="kafka", next_step="Make them with `mlp topics MODEL`."
            )
        return unavailable("Describing the topics", error)

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Lets the broker delete what lies before an offset; raises ``ServerUnavailable`` where it will not."""
        from confluent_kafka import KafkaException, TopicPartition

        try:
            for made in self._client.delete_records([TopicPartition(topic, partition, offset)]).values():
                made.result()
        except KafkaException as error:
            raise unavailable("Deleting sealed records", error) from None


class KafkaLog:
    """Committed messages of one partition, from an offset to the last that is stable now."""

    def __init__(self, connection: Connection) -> None:
        from confluent_kafka import Consumer

        self._client: Consumer = Consumer(
            connection.properties(
                group_id="ml-platform-readers",  # never joined: partitions are assigned by hand
                enable_auto_commit=False,
                enable_partition_eof=True,
                isolation_level="read_committed",
                auto_offset_reset="error",
            )
        )

    def close(self) -> None:
        self._client.close()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 where there is none.

        Raises:
            ServerUnavailable: the brokers cannot be reached.
        """
        found = _patiently(
            "Asking for the topics", lambda: self._client.list_topics(topic, timeout=_SECONDS).topics[topic]
        )
        return len(found.partitions or {})

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there and the one after the last.

        Raises:
            ServerUnavailable: the brokers cannot be reached.
        """
        from confluent_kafka import TopicPartition

        place = TopicPartition(topic, partition)
        low, high = _patiently(
            "Asking for offsets", lambda: self._client.get_watermark_offsets(place, timeout=_SECONDS)
        )
        return int(low), int(high)

    def follow(self, topic: str, partition: int, offset: int) -> None:
        """Reads from this offset on, which must still be there."""
        from confluent_kafka import TopicPartition

        self._client.assign([TopicPartition(topic, partition, offset)])

    def take(self, limit: int, wait_seconds: float) -> tuple[list[Message], int | None]:
        """What comes next, and, where everything stable was read, the offset at which later messages begin.

        Raises:
            ServerUnavailable: the brokers cannot be reached.
            NotFound: what should come next was deleted.
        """
        from confluent_kafka import KafkaError, KafkaException

        try:
            found = self._client.consume(1, wait_seconds)
            if found and limit > 1:
                found += self._client.consume(limit - 1, 0)  # what is here already: the end is told as a message
        except KafkaException as error:
            raise unavailable("Reading the topic", error) from None
        messages: list[Message] = []
        end: int | None = None
        for one in found:
            place: Any = one.offset()
            wrong: Any = one.error()
            if wrong is None:
                messages.append(Message(place, _raw(one.key()), _raw(one.value())))
                end = None  # an end that was told before it was not the last one
            elif wrong.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's public name for it
                end = place
            elif wrong.code() in {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}:  # noqa: SLF001
                raise NotFound(
                    "Messages that were not read yet have been deleted.",
                    field=one.topic(),
                    next_step="Keep them longer: the sealer must come before the topic's retention.",
                )
            elif not wrong.retriable():
                raise unavailable("Reading the topic", KafkaException(wrong))
        return messages, end

    def last(self, topic: str, partition: int) -> Message | None:
        """The last stable message; None where there is none any more.

        Raises:
            ServerUnavailable: the brokers do not answer.
        """
        low, _ = self.bounds(topic, partition)
        found = None
        for messages, _ in self.rest(topic, partition, low):
            found = messages[-1] if messages else found
        return found

    def rest(self, topic: str, partition: int, offset: int, limit: int = 5_000) -> Iterator[tuple[list[Message], int]]:
        """Everything stable from an offset on, in pieces; with each the offset at which the next begins.

        Raises:
            ServerUnavailable: the brokers do not answer for a while.
            NotFound: as in ``take``.
        """
        self.follow(topic, partition, offset)
        silent = 0
        while True:
            messages, end = self.take(limit, 1.0)
            if messages or end is not None:
                yield messages, messages[-1].offset + 1 if end is None else end
                silent = 0
            if end is not None:
                return
            silent += 1
            if silent > _SECONDS:
                raise ServerUnavailable(
                    "The brokers do not answer.", field="kafka", next_step="Check them, then run it again."
                )


def publish(connection: Connection, topic: str, messages: Sequence[tuple[bytes, bytes]]) -> None:
    """Writes (key, value) messages durably, in order, into a topic of one partition.

    Raises:
        ServerUnavailable: one of them could not be written.
    """
    from confluent_kafka import KafkaException, Producer

    failed: list[Any] = []
    producer = Producer(connection.properties(enable_idempotence=True, delivery_timeout_ms=int(_SECONDS * 1000)))
    try:
        for key, value in messages:
            producer.produce(topic, value, key, on_delivery=lambda error, _: failed.append(error) if error else None)
        left = producer.flush(_SECONDS * 2)
    except (KafkaException, BufferError) as error:
        raise unavailable("Writing the topic", error) from None
    if failed or left:
        raise unavailable("Writing the topic", KafkaException(failed[0]) if failed else TimeoutError())
