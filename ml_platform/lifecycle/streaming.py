"""Streams: a worker of a model, its topics and the schema of its events, routes announced, records brought home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, Final

from ml_platform.core.clock import format_utc
from ml_platform.core.errors import PlatformError
from ml_platform.core.settings import Settings, load_settings
from ml_platform.platform import Platform
from ml_platform.registry.routefile import RouteFile
from ml_platform.registry.routefolder import RouteFolder

if TYPE_CHECKING:
    from ml_platform.serving.stream.worker import StreamMetrics

__all__ = [
    "MadeTopics",
    "Pulled",
    "announce",
    "announce_new",
    "event_schema_of",
    "make_topics",
    "pull_records",
    "stream",
]


_ALL: Final = "all topics"


@dataclass
class Pulled:
    """How many records came from topics, and what could not be read."""

    records: int = 0
    problems: dict[str, PlatformError] = field(default_factory=dict)


@dataclass(frozen=True)
class MadeTopics:
    """Which topics were made, and in how many partitions the events lie now."""

    made: tuple[str, ...]
    partitions: int
    topic_uuid: str

    def to_json(self) -> dict[str, Any]:
        return {"made": list(self.made), "partitions": self.partitions, "topic_uuid": self.topic_uuid}


def stream(
    settings_file: Path,
    model: str,
    instance: str,
    *,
    stop: Flag,
    said: Callable[[str], None],
    ready: Callable[[], None],
    largest: int = 2_000,
) -> StreamMetrics:
    """Decides a model's events until ``stop`` is set; what it counted.

    It needs neither registry nor Dagster: route files, object store, seeds and online store of the root.

    Args:
        settings_file: of the root.
        model: its name.
        instance: this worker's name among the model's; one of the same name takes over.
        stop: ends it after the batch that has begun.
        said: told of what an operator should know.
        ready: called when the control topic was read and the group joined.
        largest: events a transaction at most.

    Raises:
        NotFound: a topic is not there, or the root never had a route; or events were deleted undecided.
        SettingsError: no brokers are named, or a topic is made wrongly.
        Conflict: another worker of this name has taken over.
        StorageFailed: the brokers are away at the start.
    """
    from ml_platform.serving.stream.opening import open_stream

    opened = open_stream(load_settings(settings_file), model, instance, said=said, stop=stop, largest=largest)
    try:
        ready()
        opened.run()
    finally:
        opened.close()
    return opened.worker.metrics


def make_topics(settings_file: Path, model: str, *, partitions: int, replication: int) -> MadeTopics:
    """Makes the topics of a model that are not there, and checks all.

    Raises:
        SettingsError: no brokers are named, or a topic that was there is made wrongly.
        ServerUnavailable: the brokers are away, or refuse.
    """
    from ml_platform.serving.stream.kafka import TopicAdmin
    from ml_platform.serving.stream.opening import connection_of
    from ml_platform.serving.stream.topics import Topics

    admin, topics = TopicAdmin(connection_of(load_settings(settings_file))), Topics.of(model)
    made = admin.create(topics, partitions=partitions, replication=replication)
    place, found = admin.place(topics)
    return MadeTopics(tuple(made), found, place.topic_uuid)


def event_schema_of(settings_file: Path, model: str) -> tuple[dict[str, Any], str]:
    """The Avro schema of the events that the primary version takes, and the digest for their header.

    The schema is stored, so that workers know it before the first event comes.

    Raises:
        NotFound: the model has no route.
    """
    from ml_platform.serving.router_root import object_store
    from ml_platform.serving.stream.events import event_schema
    from ml_platform.serving.stream.schemas import EventSchemas
    from ml_platform.training.artifact import load_artifact

    settings = load_settings(settings_file)
    objects = object_store(settings)
    contract = load_artifact(objects, RouteFile.of(settings.root, model).current().primary.artifact).contract
    digest = EventSchemas(objects, model).keep(contract)
    return event_schema(model, contract), digest


def announce(settings_file: Path, model: str) -> int:
    """Puts the route in force on the control topic; its epoch. The same again changes nothing anywhere.

    Raises:
        NotFound: there is no route.
        ServerUnavailable: the topic cannot be written.
    """
    from ml_platform.serving.stream.kafka import publish
    from ml_platform.serving.stream.opening import connection_of
    from ml_platform.serving.stream.topics import Topics

    settings = load_settings(settings_file)
    signed = RouteFolder.of(settings.root, model).route()
    publish(connection_of(settings), Topics.of(model).control, [(b"route", signed.raw)])
    return signed.route.epoch


def announce_new(settings: Settings, model: str, raw: bytes) -> PlatformError | None:
    """Puts a route on the control topic where it is not the last message there; why not, where that failed.

    A promotion does this at once and does not fail by it: the route files of the root are the truth, and the sealer
    does it again until it is done.
    """
    from ml_platform.serving.stream.kafka import KafkaLog, publish
    from ml_platform.serving.stream.opening import connection_of
    from ml_platform.serving.stream.topics import Topics

    if not settings.kafka.servers:
        return None
    topic = Topics.of(model).control
    try:
        connection = connection_of(settings)
        log = KafkaLog(connection)
        try:
            if not log.partitions(topic):
                return None  # the model has no stream
            last = log.last(topic, 0)
        finally:
            log.close()
        if last is None or last.value != raw:
            publish(connection, topic, [(b"route", raw)])
    except PlatformError as error:
        return error
    return None


def pull_records(platform: Platform, model: str | None = None) -> Pulled:
    """Takes what workers have committed into the inboxes of the sealer, of one model or of all.

    What is sealed is deleted from the topics, but for each partition's last record. A model whose topics cannot be read
    now, or hold what is not this root's, stops no other: the next call goes on.
    """
    if not platform.settings.kafka.servers:
        return Pulled()
    from ml_platform.serving.stream.kafka import KafkaLog, TopicAdmin
    from ml_platform.serving.stream.opening import connection_of
    from ml_platform.serving.stream.topics import Topics

    pulled = Pulled()
    try:
        connection = connection_of(platform.settings)
        log, admin = KafkaLog(connection), TopicAdmin(connection)
    except PlatformError as error:
        return Pulled(problems={_ALL: error})
    try:
        for name in sorted(platform.registry.state().models) if model is None else [model]:
            try:
                if log.partitions(Topics.of(name).predictions):
                    pulled.records += _pull_model(platform, log, admin, name)
            except PlatformError as error:
                pulled.problems[f"{name}, its topics"] = error
    finally:
        log.close()
    return pulled


def _pull_model(platform: Platform, log: Any, admin: Any, model: str) -> int:
    from ml_platform.serving.stream.inbox import Inbox
    from ml_platform.serving.stream.topics import Topics, writer_of
    from ml_platform.serving.wal import WAL_FOLDER

    topics, taken = Topics.of(model), 0
    place, partitions = admin.place(topics)
    writers = platform.registry.state().writers
    for partition in range(partitions):
        writer = writer_of(place, partition)
        inbox = Inbox(platform.root / WAL_FOLDER, model, writer, platform.root_id, topics.predictions, partition)
        known = writers.get(writer)
        sealed = inbox.sealed_until()
        if sealed is not None:
            admin.delete_before(topics.predictions, partition, sealed)
            inbox.deleted(sealed)
        if known is not None or log.bounds(topics.predictions, partition)[1]:
            at = format_utc(platform.wall.now())
            taken += inbox.pull(log, sealed_seq=0 if known is None else known.next_seq, at=at)
    return taken
