"""A worker put together from a root's settings, as a router is: route files, objects and seeds, no registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag

from ml_platform.core.errors import SettingsError
from ml_platform.core.settings import Settings
from ml_platform.core.subjects import Subjects
from ml_platform.features.stores import open_online_store
from ml_platform.registry.routefile import RouteFile
from ml_platform.registry.routefolder import RouteFolder
from ml_platform.serving.features_lookup import FeatureLookup, StoredFeatures
from ml_platform.serving.router_clock import clock_of
from ml_platform.serving.router_root import object_store, root_seed, shared_seed
from ml_platform.serving.scorer import Scorer
from ml_platform.serving.served import Versions
from ml_platform.serving.stream.control import ControlTopic
from ml_platform.serving.stream.deciding import StreamDecider
from ml_platform.serving.stream.following import Follower
from ml_platform.serving.stream.kafka import Connection, KafkaLog, TopicAdmin
from ml_platform.serving.stream.kafka_transactions import TransactionalLog
from ml_platform.serving.stream.schemas import EventSchemas
from ml_platform.serving.stream.topics import Place, Topics
from ml_platform.serving.stream.worker import StreamWorker

__all__ = ["ID_KEY_ENTITY", "Stream", "connection_of", "open_decider", "open_stream"]

ID_KEY_ENTITY = "(stream ids)"
"""Under this name, which no entity has, the seeds of a root hold the key of its streams' ids."""

_FILES = "kafka_"
_LONGEST_TEXT = 1024


def connection_of(settings: Settings) -> Connection:
    """How to reach the brokers that the settings name; properties that are secret come from ``secrets/kafka_*``.

    Raises:
        SettingsError: none are named, or others may read a secret.
    """
    if not settings.kafka.servers:
        raise SettingsError(
            "The settings name no brokers.", field="kafka", next_step='Write [kafka] servers = "host:9092".'
        )
    secret = {
        path.name.removeprefix(_FILES).replace("_", "."): _read(path)
        for path in sorted((settings.root / "secrets").glob(f"{_FILES}*"))
    }
    return Connection(settings.kafka.servers, {**settings.kafka.options, **secret})


def _read(path: Path) -> str:
    try:
        private = not path.stat().st_mode & 0o077
        text = path.read_text().strip()
    except OSError as error:
        raise SettingsError(
            "A secret of this root cannot be read.", field=path.name, next_step="Restore `secrets` from its backup."
        ) from error
    if not private:
        raise SettingsError(
            "A secret may be read by others.", field=path.name, next_step="chmod 600 it, and consider it known."
        )
    return text


@dataclass
class Stream:
    """A worker with all that belongs to it, from ``open_stream`` to ``close``."""

    worker: StreamWorker
    log: TransactionalLog
    control: ControlTopic
    control_log: KafkaLog
    stop: Flag

    def run(self) -> None:
        """Works until ``stop`` is set; see ``StreamWorker.run``."""
        self.control.follow(self.stop)
        self.worker.run(self.stop)

    def close(self) -> None:
        """Ends the thread and leaves the group; what was not committed is not there."""
        self.stop.set()
        self.control.join()
        self.log.close()
        self.control_log.close()


def open_decider(
    settings: Settings, model: str, place: Place, *, features: FeatureLookup | None = None
) -> StreamDecider:
    """What decides a model's events; loads what the route names, if there is one yet.

    Raises:
        NotFound: the root never had a route, so nothing is pinned.
    """
    objects, clock = object_store(settings), clock_of(settings)
    folder = RouteFolder.of(settings.root, model)
    schemas = EventSchemas(objects, model)
    versions = Versions(
        lambda digest: Scorer.load(objects, digest),
        root_id=folder.pin.root_id,
        model=model,
        clock=clock.kind,
        writer="",  # each partition's own
        longest_text=_LONGEST_TEXT,
    )
    follower = Follower(RouteFile(folder), versions, schemas.keep)
    subjects = Subjects(settings.root / "subjects" / "subjects.sqlite", root_seed=root_seed(settings))
    return StreamDecider(
        model=model,
        place=place,
        follower=follower,
        schemas=schemas,
        clock=clock,
        id_key=subjects.seeds(ID_KEY_ENTITY, [b""])[0],
        seed_of=lambda contract: shared_seed(settings, objects, contract),
        features=features or StoredFeatures(objects, open_online_store(settings.online)),
    )


def open_stream(
    settings: Settings,
    model: str,
    instance: str,
    *,
    said: Callable[[str], None],
    stop: Flag,
    features: FeatureLookup | None = None,
    largest: int = 2_000,
) -> Stream:
    """A worker that has read the control topic to its end and joined the model's group.

    Stored features come from the root's online store, unless ``features`` says otherwise.

    Raises:
        NotFound: a topic is not there, or no route was ever written in this root.
        SettingsError: the brokers are not named, or a topic is made wrongly.
        StorageFailed: the brokers are away.
    """
    connection, topics = connection_of(settings), Topics.of(model)
    place, _ = TopicAdmin(connection).place(topics)
    decider = open_decider(settings, model, place, features=features)
    control_log = KafkaLog(connection)
    control = ControlTopic(control_log, topics.control, RouteFolder.of(settings.root, model), said)
    log = TransactionalLog(connection, topics, instance, stop, said)
    control.read_to_the_end()
    log.open()
    return Stream(StreamWorker(log, decider, said, largest), log, control, control_log, stop)
