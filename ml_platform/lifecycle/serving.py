"""Online serving: the server of a root, versions into it before they are routed, and one question to a router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ml_platform.core.clock import parse_utc
from ml_platform.core.errors import ContractViolation, NotFound, PlatformError
from ml_platform.core.objects import ObjectStore
from ml_platform.core.rows import micros
from ml_platform.core.settings import load_settings
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.registry.routefile import RouteFile
from ml_platform.serving.declaration import Serving
from ml_platform.serving.triton.boot import Boot
from ml_platform.serving.triton.client import TritonClient
from ml_platform.serving.triton.nginx import Nginx
from ml_platform.serving.triton.pushing import Pusher, Served
from ml_platform.serving.triton.repository import NULL_SUFFIX, router_model_name, version_model_name
from ml_platform.serving.triton.supervisor import Supervisor, Wanted
from ml_platform.training.artifact import load_artifact

__all__ = ["EdgeChoice", "TritonServing", "predict", "serve"]

EdgeChoice = Literal["auto", "nginx", "none"]

_ANSWER: Final = ("decision", "version", "prediction_id", "epoch")
"""What every router answers beside the named outputs."""


@dataclass(frozen=True)
class TritonServing:
    """What a promotion asks of the running server of a root, before any route changes and after.

    Args:
        root: the root's folder.
        objects: where the artifacts lie.
        declared: how models are served; a model that is not named is served as it was last.
    """

    root: Path
    objects: ObjectStore
    declared: Mapping[str, Serving] = field(default_factory=dict)

    @classmethod
    def of(cls, platform: Platform, models: Mapping[str, Model] | None = None) -> TritonServing:
        """The server of a platform's root."""
        return cls(platform.root, platform.objects, {name: one.serving for name, one in (models or {}).items()})

    def prepare(self, model: str, version: int, artifact: str) -> int:
        """Loads a version, proves it by its golden rows, and makes sure that a router takes its requests.

        Returns:
            How many golden rows were compared.

        Raises:
            ServerUnavailable: no server runs, or it does not answer; nothing was changed.
            ArtifactCorrupt: a byte of the artifact is not what its digest says; the server never saw it.
            ValidationFailed: the server refuses the version, or it scores otherwise; it was taken out again.
        """
        boot = Boot.read(self.root)
        serving = self.declared.get(model) or Served.read(self.root, model).serving
        with TritonClient(boot) as client:
            pusher = Pusher(self.root, self.objects, boot, client)
            compared = pusher.version(model, version, artifact, serving)
            pusher.router(model, [load_artifact(self.objects, artifact).contract], serving)
        return compared

    def retire(self, model: str, version: int) -> None:
        """Takes a version that no route names out of the server; one that is not there is fine.

        Raises:
            ServerUnavailable: no server runs, or it does not answer.
        """
        boot = Boot.read(self.root)
        with TritonClient(boot) as client:
            Pusher(self.root, self.objects, boot, client).retire(version_model_name(model, version))


def serve(
    settings_file: Path,
    models: Mapping[str, Model],
    *,
    ready: Callable[[Boot], None],
    say: Callable[[str], None],
    edge: EdgeChoice = "auto",
    **addresses: Any,
) -> None:
    """Runs the server of a root with all routed versions of these models, until it is interrupted.

    It needs neither registry nor network: routes are signed files.

    Args:
        settings_file: the root's.
        models: the declared models; those without a route are served as soon as they get one.
        ready: called after each start, when the routed versions answer.
        say: told what happens.
        edge: what stands before the REST port: ``nginx``; ``none``; ``auto``: nginx where the machine has it.
        addresses: ``host``, ``http_port``, ``grpc_port``, ``metrics_port``, where not as the settings say.

    Raises:
        Conflict: a server runs for this root already.
        SettingsError: the settings cannot be used, or the server or the edge is not installed.
        ServerUnavailable: it does not start.
    """
    settings = load_settings(settings_file)
    given = {name: value for name, value in addresses.items() if value is not None}
    Supervisor(
        root=settings.root,
        settings_file=settings_file,
        objects=ObjectStore(settings.objects, settings.storage),
        addresses=replace(settings.serving, **given),
        serving={name: model.serving for name, model in models.items()},
        routed=_Routes(settings.root, say).of,
        say=say,
        nginx=_edge(edge, say),
    ).run(ready)


def _edge(choice: EdgeChoice, say: Callable[[str], None]) -> Nginx | None:
    """What stands before the REST port, said with what it means."""
    found = None if choice == "none" else Nginx.required() if choice == "nginx" else Nginx.find()
    if found is not None:
        say("edge: nginx reads requests before Triton: what Triton cannot read is refused with 400")
        return found
    why = "as told" if choice == "none" else "nginx with the Lua module is not here"
    say(f"edge: none ({why}): Triton answers 500 to bodies that it cannot read, and some requests bring it down")
    return None


@dataclass
class _Routes:
    """Routes as the supervisor sees them: a file that does not count is said once, and the last good one stands."""

    root: Path
    say: Callable[[str], None]
    _files: dict[str, RouteFile] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def of(self, model: str) -> Wanted:
        try:
            if model not in self._files:
                self._files[model] = RouteFile.of(self.root, model)
            routed = self._files[model].current()
        except NotFound:
            self._remark(model, f"{model} has no route yet; it is served once a promotion to production writes one")
            return {}
        except PlatformError as error:
            self._remark(model, f"a route file of {model} is not followed: {error}")
            return {}
        if routed.refused is not None:
            self._remark(model, f"a route file of {model} is not followed: {routed.refused.what}")
        return dict(routed.versions)

    def _remark(self, model: str, text: str) -> None:
        if self._said.get(model) != text:
            self._said[model] = text
            self.say(text)


def predict(root: Path, model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Asks the running router of a model for one decision; it is recorded like any other.

    Args:
        root: the root's folder.
        model: model name.
        values: the request by field name: numbers, texts, RFC 3339 times, None for null. Text is converted to what the
            field is.

    Returns:
        The named outputs, ``decision``, ``version``, ``prediction_id``, ``reason_codes``, ``epoch``.

    Raises:
        ServerUnavailable: no server runs, or it cannot record decisions now.
        NotFound: it does not serve this model.
        ContractViolation: the request is refused; names field and rule, never the value.
    """
    boot = Boot.read(root)
    served = Served.read(root, model)
    name = router_model_name(model, max(1, len(served.generations)))
    with TritonClient(boot) as client:
        kinds = served.fields(client.inputs(name))
        tensors: dict[str, npt.NDArray[Any]] = {}
        for field_name, value in values.items():
            if field_name not in kinds or field_name.endswith(NULL_SUFFIX):
                known = ", ".join(one for one in kinds if not one.endswith(NULL_SUFFIX))
                raise ContractViolation(
                    "The request has no such field.", field=field_name, next_step=f"It has {known}."
                )
            if value is None:
                tensors[f"{field_name}{NULL_SUFFIX}"] = np.array([[True]])
            else:
                tensors[field_name] = _tensor(field_name, kinds[field_name], value)
        answer = client.infer(name, tensors)
    document = {key: _plain(value[0]) for key, value in answer.items()}
    reasons = [reason for reason in document.pop("reason_codes", []) if reason]
    outputs = sorted(document.keys() - set(_ANSWER))
    return {key: document[key][0] for key in (*outputs, *_ANSWER) if key in document} | {"reason_codes": reasons}


def _plain(values: npt.NDArray[Any]) -> list[Any]:
    """Values as JSON has them; a float32 as the shortest decimal that stands for it alone, as a trace shows it."""
    return [
        float(str(one)) if isinstance(one, np.float32) else one.item() if isinstance(one, np.generic) else one
        for one in values
    ]


def _tensor(name: str, datatype: str, value: Any) -> npt.NDArray[Any]:
    try:
        if datatype == "BYTES":
            return np.array([[str(value)]], dtype=object)
        if datatype == "BOOL":
            return np.array([[{"true": True, "false": False}[str(value).lower()]]])
        if datatype in {"INT64", "INT32"}:
            return np.array([[_whole(value)]], dtype=datatype.lower())
        return np.array([[float(value)]], dtype=np.float64)
    except (TypeError, ValueError, KeyError, OverflowError, PlatformError):
        raise ContractViolation(
            f"The value is no {datatype}.", field=name, next_step="Write a value of that type."
        ) from None


def _whole(value: Any) -> int:
    """An integer, or a time as microseconds since 1970 UTC."""
    try:
        return int(value)
    except ValueError:
        return micros(parse_utc(str(value)))
