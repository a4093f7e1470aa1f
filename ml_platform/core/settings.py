"""One settings file for every process: ``settings.toml`` in the root, or ``ML_PLATFORM_SETTINGS``.

It says what kind of root this is and where things live. Identity (root id, keys, policy) is in the registry's
genesis, not here: a settings file can be edited, genesis cannot.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from ml_platform.core.errors import SettingsError
from ml_platform.core.spark import SparkSettings
from ml_platform.core.storage import StorageSettings, location, parse_storage

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "BatchSettings",
    "KafkaSettings",
    "ServingSettings",
    "Settings",
    "load_settings",
    "settings_path",
    "settings_text",
]

ENVIRONMENT_VARIABLE: Final = "ML_PLATFORM_SETTINGS"
_KNOWN: Final = {
    "kind",
    "lake",
    "objects",
    "registry",
    "unavailable",
    "launcher",
    "image_digest",
    "serving",
    "online",
    "alerts",
    "batch",
    "spark",
    "storage",
    "kafka",
}


@dataclass(frozen=True)
class ServingSettings:
    """Where the inference server of a root listens; port 0 takes a free one.

    ``host`` is the address for HTTP and gRPC. Metrics listen there too.
    """

    host: str = "127.0.0.1"
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0


@dataclass(frozen=True)
class BatchSettings:
    """Where batches are scored: ``engine`` is ``arrow`` (in the process that was asked) or ``spark``.

    The records are the same. ``scratch`` is where a run sorts; driver and executors of a cluster must share it.
    """

    engine: Literal["arrow", "spark"] = "arrow"
    scratch: str = ""


@dataclass(frozen=True)
class KafkaSettings:
    """The brokers of a root: ``host:port`` with commas, and further properties of librdkafka, none of them secret."""

    servers: str = ""
    options: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """Where a root's parts live; everything defaults to folders and SQLite files below the root.

    ``unavailable`` maps a protected attribute to the written reason why there is no data for it here; it lands in
    evaluations and in what approvers sign. ``launcher`` is the principal under which jobs of this root run.
    ``alerts`` maps a route's name to its ``kind``, ``least`` severity and ``url``. ``storage`` says how ``lake`` and
    ``objects`` are reached where they are URLs.
    """

    root: Path
    kind: Literal["wall", "replay"]
    lake: str
    objects: str
    registry: str
    unavailable: Mapping[str, str] = field(default_factory=dict)
    launcher: str = "service"
    image_digest: str | None = None
    serving: ServingSettings = field(default_factory=ServingSettings)
    online: str = ""
    alerts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    batch: BatchSettings = field(default_factory=BatchSettings)
    spark: SparkSettings = field(default_factory=SparkSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)


def settings_path(root: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """The settings file that a process should read: ``--root`` first, then the environment.

    Raises:
        SettingsError: neither names one.
    """
    if root is not None:
        return root / "settings.toml"
    named = (os.environ if environ is None else environ).get(ENVIRONMENT_VARIABLE)
    if not named:
        raise SettingsError(
            "No root is named.",
            field="--root",
            next_step=f"Give --root DIR, or set {ENVIRONMENT_VARIABLE} to a settings.toml; `mlp demo` makes a root.",
        )
    return Path(named)


def load_settings(path: Path) -> Settings:
    """Reads and validates a settings file.

    Raises:
        SettingsError: it is missing, unreadable, or has unknown or mistyped settings.
    """
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(
            "The settings file cannot be read.",
            field=path.name,
            next_step="Check --root; `mlp demo --root DIR` or `mlp init --root DIR` makes a root.",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("The settings file is not TOML.", field=path.name, next_step="Mend its syntax.") from error
    unknown = sorted(set(document) - _KNOWN)
    if unknown:
        raise SettingsError(
            "Unknown setting.", field=", ".join(unknown), next_step=f"Known are {', '.join(sorted(_KNOWN))}."
        )
    root = path.parent.resolve()
    return Settings(
        root=root,
        kind=_kind(document),
        lake=location("lake", _text(document, "lake", str(root / "lake"))),
        objects=location("objects", _text(document, "objects", str(root / "store"))),
        registry=_text(document, "registry", f"sqlite:///{root / 'registry.sqlite'}"),
        unavailable=_reasons(document.get("unavailable", {})),
        launcher=_text(document, "launcher", "service"),
        image_digest=_text(document, "image_digest", "-") if "image_digest" in document else None,
        serving=_serving(document.get("serving", {})),
        online=_text(document, "online", f"sqlite:///{root / 'online' / 'features.sqlite'}"),
        alerts=_alerts(document.get("alerts", {})),
        batch=_batch(document.get("batch", {})),
        spark=_spark(document.get("spark", {})),
        storage=parse_storage(document.get("storage", {})),
        kafka=_kafka(document.get("kafka", {})),
    )


def settings_text(given: Mapping[str, Any]) -> str:
    """The text of a settings file: plain settings first, then tables; names and values as ``load_settings`` takes them.

    Nothing is checked here: load what was written.
    """
    plain = {name: value for name, value in given.items() if not isinstance(value, Mapping)}
    tables = {name: value for name, value in given.items() if isinstance(value, Mapping) and value}
    lines = ["# What kind of root this is and where things live; docs/settings.md lists every setting."]
    lines += [f"{name} = {_toml(value)}" for name, value in plain.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{item} = {_toml(value)}" for item, value in sorted(table.items()))]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON's texts, numbers and truth values are TOML's


def _kind(document: Mapping[str, Any]) -> Literal["wall", "replay"]:
    kind = document.get("kind")
    if kind == "wall":
        return "wall"
    if kind == "replay":
        return "replay"
    raise SettingsError(
        "A root is of one kind, for ever.", field="kind", next_step='Write kind = "wall" or kind = "replay".'
    )


def _text(document: Mapping[str, Any], name: str, default: str) -> str:
    value = document.get(name, default)
    if not isinstance(value, str) or not value:
        raise SettingsError("The setting is not a text.", field=name, next_step="Write it in quotes.")
    return value


def _reasons(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(reason, str) and reason.strip() for reason in value.values()):
        raise SettingsError(
            "Each unavailable attribute needs a written reason.",
            field="unavailable",
            next_step='Write [unavailable] applicant_group = "why there is none here".',
        )
    return dict(value)


def _serving(value: object) -> ServingSettings:
    known = [item.name for item in fields(ServingSettings)]
    if not isinstance(value, dict) or set(value) - set(known):
        raise SettingsError(
            "The settings of serving are a table of known names.",
            field="serving",
            next_step=f"Known are {', '.join(known)}.",
        )
    for name in known[1:]:
        port = value.get(name, 0)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65_535:
            raise SettingsError("This is no port.", field=f"serving.{name}", next_step="Use 0 (free) to 65535.")
    _text(value, "host", "-")
    return ServingSettings(**value)


def _texts(name: str, value: object, known: list[str]) -> dict[str, Any]:
    """A table of known names whose values are texts."""
    if not isinstance(value, dict) or set(value) - set(known):
        raise SettingsError(
            f"The settings of {name} are a table of known names.",
            field=name,
            next_step=f"Known are {', '.join(known)}.",
        )
    for item in value:
        if not isinstance(value[item], str) or not value[item]:
            raise SettingsError("The setting is not a text.", field=f"{name}.{item}", next_step="Write it in quotes.")
    return dict(value)


def _batch(value: object) -> BatchSettings:
    found = _texts("batch", value, [item.name for item in fields(BatchSettings)])
    if found.get("engine", "arrow") not in {"arrow", "spark"}:
        raise SettingsError("There is no such engine.", field="batch.engine", next_step='Choose "arrow" or "spark".')
    return BatchSettings(**found)


def _spark(value: object) -> SparkSettings:
    conf = value.get("conf", {}) if isinstance(value, dict) else {}
    if not isinstance(conf, dict) or not all(isinstance(one, str) for one in conf.values()):
        raise SettingsError(
            "Spark's own settings are texts.", field="spark.conf", next_step='Write conf = { "spark.x" = "1" }.'
        )
    rest = {name: one for name, one in value.items() if name != "conf"} if isinstance(value, dict) else value
    return SparkSettings(**_texts("spark", rest, ["master", "memory", "jars"]), conf=dict(conf))


def _kafka(value: object) -> KafkaSettings:
    if not isinstance(value, dict) or set(value) - {"servers", "options"}:
        raise SettingsError(
            "The settings of Kafka are a table of known names.",
            field="kafka",
            next_step='Write [kafka] servers = "host:9092", and further properties below [kafka.options].',
        )
    options = value.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(one, str | int | bool) for one in options.values()):
        raise SettingsError(
            "Further properties are names and plain values.",
            field="kafka.options",
            next_step='Write [kafka.options] "security.protocol" = "SASL_SSL".',
        )
    secret = sorted(name for name in options if "password" in name or "secret" in name or name.endswith(".pem"))
    if secret:
        raise SettingsError(
            "A secret has no place in the settings.",
            field=f"kafka.options.{secret[0]}",
            next_step=f"Write it to secrets/kafka_{secret[0].replace('.', '_')}, mode 0600.",
        )
    if value:
        _text(value, "servers", "")
    return KafkaSettings(**value)


_ALERT_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": ("log", "webhook", "slack", "pagerduty"),
    "least": ("P0", "P1", "P2", "P3"),
}
_ALERT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _alerts(value: object) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(route, dict) for route in value.values()):
        raise SettingsError(
            "Each alert route is a table.", field="alerts", next_step='Write [alerts.oncall] kind = "webhook".'
        )
    for name, route in value.items():
        if not _ALERT_NAME.fullmatch(name) or "kind" not in route or set(route) - {"kind", "least", "url"}:
            raise SettingsError(
                "An alert route has a lower-case name, a kind, and perhaps least and url.",
                field=f"alerts.{name}",
                next_step='Write [alerts.oncall] kind = "webhook"; its address may be in secrets/alerts_oncall.',
            )
        for item, choices in _ALERT_CHOICES.items():
            if route.get(item, choices[0]) not in choices:
                raise SettingsError(
                    "The alert route names something unknown.",
                    field=f"alerts.{name}.{item}",
                    next_step=f"Choose one of {', '.join(choices)}.",
                )
        _text(route, "url", "-")
    return {name: dict(route) for name, route in value.items()}
