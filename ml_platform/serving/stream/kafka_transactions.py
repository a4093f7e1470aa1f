"""Read, decide, write exactly once: events taken by a group member, everything about them in one transaction.

Answers, records, dead letters and the group's new offsets are committed together or not at all (KIP-447: the group's
generation fences a worker that has lost its partitions, the transactional id one that was replaced). With an offset is
committed the number that the partition's next decision has, so that numbers go on without gap whoever decides next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, Final

from ml_platform.core.errors import Conflict, NotFound, PlatformError, SettingsError, StorageFailed
from ml_platform.serving.stream.deciding import Batch, DeadLetter
from ml_platform.serving.stream.events import Event
from ml_platform.serving.stream.kafka import Connection, KafkaLog, unavailable
from ml_platform.serving.stream.topics import Position, Topics
from ml_platform.serving.stream.worker import NotWritten

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Producer, TopicPartition

__all__ = ["LETTER_HEADER", "TransactionalLog"]

LETTER_HEADER: Final = "ml-dead-letter"
_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.2
_FETCH: Final = {"fetch.wait.max.ms": 20, "queued.max.messages.kbytes": 65_536, "queued.min.messages": 20_000}


class TransactionalLog:
    """One worker's end of the topics. For one thread.

    Args:
        connection: the brokers.
        topics: of the model.
        instance: this worker's name; a later worker of the same name fences it.
        stop: set when the process shall end; ends waits for brokers that are away.
        said: told once when the brokers are away, and when they are back.
    """

    def __init__(
        self, connection: Connection, topics: Topics, instance: str, stop: Flag, said: Callable[[str], None]
    ) -> None:
        from confluent_kafka import Consumer, Producer

        self._connection, self._topics, self._stop, self._said = connection, topics, stop, said
        self._positions: dict[int, Position] = {}
        self._error: PlatformError | None = None
        self._producer: Producer = Producer(
            connection.properties(
                transactional_id=f"{topics.group}.{instance}",
                message_max_bytes=4 << 20,
                linger_ms=2,
                batch_size=1 << 20,
            )
        )
        self._consumer: Consumer = Consumer(
            connection.properties(
                group_id=topics.group,
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="error",
                partition_assignment_strategy="range",
                **{name.replace(".", "_"): value for name, value in _FETCH.items()},
            )
        )

    def open(self) -> None:
        """Fences whoever had this name, then joins the group.

        Raises:
            StorageFailed: the brokers stay away until ``stop`` is set, or refuse.
        """
        self._retried("Opening the transactions", lambda: self._producer.init_transactions(_SECONDS))
        self._join()

    def _join(self) -> None:
        self._consumer.subscribe(
            [self._topics.events], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def close(self) -> None:
        """Leaves; what was not committed is not there."""
        self._consumer.close()

    @property
    def following(self) -> dict[int, int]:
        """Partition → the number of its next decision, of all partitions that are this worker's now."""
        return {partition: position.seq for partition, position in self._positions.items()}

    # -- the group ---------------------------------------------------------------------------------------------------

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Called inside ``take``; between two batches, so that no transaction is open."""
        try:
            consumer.assign(self._loaded(partitions))
        except PlatformError as error:
            self._error = error  # raised by ``take``: an exception from here would reach nobody
            consumer.assign([])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:  # noqa: ARG002 - its signature
        self._positions.clear()
        consumer.unassign()

    def _loaded(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Partitions at what the group has committed; waits for transactions that are still open."""
        from confluent_kafka import TopicPartition

        named = [TopicPartition(one.topic, one.partition) for one in partitions]
        found = self._retried("Reading the group's offsets", lambda: self._consumer.committed(named, timeout=_SECONDS))
        self._positions = {one.partition: self._position(one) for one in found}
        return [TopicPartition(one.topic, one.partition, self._positions[one.partition].offset) for one in found]

    def _position(self, committed: TopicPartition) -> Position:
        """Where the group stands; where its offset was lost or moved by hand, where the log of records ends."""
        from confluent_kafka import OFFSET_BEGINNING

        if committed.error is not None:
            raise unavailable("Reading the group's offsets", _as_exception(committed.error))
        found = Position.of_committed(committed.offset, committed.metadata) if committed.offset >= 0 else None
        if found is not None:
            return found
        log = KafkaLog(self._connection)
        try:
            low, high = log.bounds(self._topics.predictions, committed.partition)
            last = None if high == low else log.last(self._topics.predictions, committed.partition)
        finally:
            log.close()
        if last is None and not low:
            return Position(OFFSET_BEGINNING, 0)  # nothing was ever committed, though perhaps aborted
        found = Position.of_key(None if last is None else last.key)
        if found is None:
            raise _lost(committed.partition)
        self._said(
            f"partition {committed.partition}: the group's offset was lost; the log of records says where to go on"
        )
        return found

    def rewind(self) -> None:
        """Goes back to what is committed: the events that were taken since come again.

        Raises:
            StorageFailed: the brokers cannot be asked.
        """
        assigned = self._consumer.assignment()
        self._consumer.assign(self._loaded(assigned) if assigned else [])

    def rejoin(self) -> None:
        """Leaves the group and joins it again, after an assignment that could not be read."""
        self._consumer.unsubscribe()
        self._positions.clear()
        self._join()

    # -- reading -----------------------------------------------------------------------------------------------------

    def take(self, limit: int, wait_seconds: float, gather_seconds: float) -> list[Event]:
        """The next events of this worker's partitions, each partition's in order; none where none came in time.

        Raises:
            Conflict: another worker of this name has taken over.
            NotFound: events were deleted before they were decided.
            PlatformError: the group's position cannot be used; see ``rejoin``.
        """
        from confluent_kafka import KafkaException

        try:
            found = self._consumer.consume(1, wait_seconds)
            if found and limit > 1:
                found += self._consumer.consume(limit - 1, gather_seconds)
        except KafkaException as error:
            raise self._failed("Reading events", error) from None
        if self._error is not None:
            error_, self._error = self._error, None
            raise error_
        return [event for one in found if (event := self._event(one)) is not None]

    def _event(self, message: Any) -> Event | None:
        from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException

        error = message.error()
        if error is None:
            kind, stamp_ms = message.timestamp()
            if kind != TIMESTAMP_LOG_APPEND_TIME:
                raise SettingsError(
                    "The topic's times are those that producers say.",
                    field=self._topics.events,
                    next_step="Set message.timestamp.type=LogAppendTime: decided_at comes from it.",
                )
            headers = tuple(message.headers() or ())
            place = message.partition(), message.offset()
            return Event(*place, stamp_ms * 1000, message.key(), message.value(), headers)
        if error.code() in {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}:  # noqa: SLF001 - its name
            raise NotFound(
                "Events were deleted before they were decided.",
                field=self._topics.events,
                next_step="Find out which are missing, then set the group's offset as docs/streaming.md says.",
            )
        if error.fatal():
            raise self._failed("Reading events", KafkaException(error))
        return None  # the client goes on by itself

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, events: Sequence[Event], batch: Batch) -> None:
        """Commits everything that a batch became, and that its events are done.

        Raises:
            NotWritten: nothing is visible; the events come again.
            Conflict: another worker of this name has taken over; nothing is visible.
            StorageFailed: ``stop`` was set while the brokers were away; the commit is whole or it is not there.
        """
        from confluent_kafka import KafkaException, TopicPartition

        ends = {event.partition: Position(event.offset + 1, batch.following[event.partition]) for event in events}
        offsets = [
            TopicPartition(self._topics.events, partition, position.offset, position.to_metadata())
            for partition, position in ends.items()
        ]
        try:
            self._begin()
            self._produce(batch)
            self._offsets(offsets)
            self._commit()
        except (KafkaException, BufferError) as error:
            self._abort(error)
        self._positions |= ends

    def _begin(self) -> None:
        self._producer.begin_transaction()

    def _produce(self, batch: Batch) -> None:
        for partition, records in batch.records.items():
            self._batch(self._topics.predictions, partition, [{"key": key, "value": value} for key, value in records])
        by_partition: dict[int, list[dict[str, Any]]] = {}
        for one in batch.outputs:
            by_partition.setdefault(one.partition, []).append({"key": one.key, "value": one.value})
        for partition, some in by_partition.items():
            self._batch(self._topics.decisions, partition, some)
        for letter in batch.letters:
            self._producer.produce(
                self._topics.dead_letters,
                letter.event.value,
                letter.event.key,
                partition=letter.event.partition,
                headers=[*letter.event.headers, (LETTER_HEADER, _why(self._topics, letter))],
            )

    def _batch(self, topic: str, partition: int, messages: list[dict[str, Any]]) -> None:
        if self._producer.produce_batch(topic, messages, partition=partition) != len(messages):
            raise BufferError("queue")

    def _offsets(self, offsets: list[TopicPartition]) -> None:
        group = self._consumer.consumer_group_metadata()
        self._retried("Sending offsets", lambda: self._producer.send_offsets_to_transaction(offsets, group, _SECONDS))

    def _commit(self) -> None:
        self._retried("Committing", lambda: self._producer.commit_transaction(_SECONDS))

    def _abort(self, error: Exception) -> None:
        """Ends what was begun, and goes back; never returns."""
        from confluent_kafka import KafkaException

        if isinstance(error, KafkaException) and error.args[0].fatal():
            raise self._failed("Writing", error) from None
        try:
            self._retried("Aborting", lambda: self._producer.abort_transaction(_SECONDS))
        except KafkaException as failed:
            raise self._failed("Aborting", failed) from None
        self.rewind()
        raise NotWritten from None

    def _retried(self, doing: str, call: Callable[[], Any]) -> Any:
        """The result of a call that may be repeated while the brokers are away.

        Raises:
            KafkaException: repeating would not help.
            StorageFailed: ``stop`` was set meanwhile.
        """
        from confluent_kafka import KafkaException

        told = False
        while True:
            try:
                found = call()
            except KafkaException as error:
                reason = error.args[0]
                if reason.fatal() or reason.txn_requires_abort() or not (reason.retriable() or _away(reason)):
                    raise
                if self._stop.is_set():
                    raise unavailable(doing, error) from None
                if not told:
                    self._said(f"{doing} waits for the brokers ({reason.name()})")
                    told = True
                time.sleep(_PAUSE_SECONDS)
            else:
                if told:
                    self._said("the brokers are back")
                return found

    def _failed(self, doing: str, error: Any) -> PlatformError:
        from confluent_kafka import KafkaError

        fenced = {KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001
        if error.args[0].code() in fenced or error.args[0].code() == KafkaError.PRODUCER_FENCED:
            return Conflict(
                "Another worker of this name has taken over.",
                field="--instance",
                next_step="Give each worker a name of its own; this one has written nothing since.",
            )
        if error.args[0].fatal():
            return Conflict(
                f"The brokers' client cannot go on ({error.args[0].name()}).",
                field="kafka",
                next_step="Start it again.",
            )
        return unavailable(doing, error)


def _away(error: Any) -> bool:
    from confluent_kafka import KafkaError

    waits = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._WAIT_COORD}  # noqa: SLF001
    return error.code() in waits


def _as_exception(error: Any) -> Any:
    from confluent_kafka import KafkaException

    return KafkaException(error)


def _why(topics: Topics, letter: DeadLetter) -> bytes:
    """Field, rule and kind of value of each refusal, and where the event lies; never a value."""
    why = [{"field": one.field, "rule": one.rule, "kind": one.kind} for one in letter.refusals]
    event = letter.event
    source = {"topic": topics.events, "partition": event.partition, "offset": event.offset}
    return json.dumps({"refusals": why, "source": source, "version": letter.version}, sort_keys=True).encode()


def _lost(partition: int) -> StorageFailed:
    return StorageFailed(
        "The group's offset is lost, and the log of records does not say either where to go on.",
        field=f"partition {partition}",
        next_step="Use a new topic of events: what was decided of this one is not known any more.",
    )
