"""``Model``: the one declaration that composes all of the above.

About thirty lines of it give a team features, point-in-time data sets, training, gates, a registry entry, approvals,
batch decisions with records, and the trace of each of them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, Final, Literal

from ml_platform.core.digests import document_digest
from ml_platform.core.errors import DeclarationError, NotFound
from ml_platform.core.fields import check_name
from ml_platform.datasets import Label, TimeSplit
from ml_platform.features import Entity, FeatureView, RequestView, Source
from ml_platform.features.declaration import DEFINITION_FORMAT, check_known, check_unique
from ml_platform.features.deprecation import warn_deprecated
from ml_platform.monitoring import Monitor
from ml_platform.rollout import Rollout
from ml_platform.serving.declaration import Serving
from ml_platform.training import Decline, Gate, Trainer

__all__ = ["Approvals", "Attribute", "Model", "RiskClass", "load_models", "plain_sources"]

RiskClass = Literal["high", "limited", "minimal"]
_OWNER: Final = re.compile(r"team:[a-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True)
class Attribute:
    """A protected attribute: kept in a restricted source, never a feature, joined only for evaluation.

    Args:
        name: the attribute; also its column in ``source`` unless ``column`` says another.
        source: the restricted source, keyed like the model's entity.
    """

    name: str
    source: Source
    column: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        check_known(self.value_column, self.source.columns, field="column")

    @property
    def value_column(self) -> str:
        return self.column or self.name

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "source": self.source.reference, "column": self.value_column}


@dataclass(frozen=True)
class Approvals:
    """How many people must sign, by stage. The policy of the root sets the least; this may only be stricter."""

    canary: int = 1
    production: int = 1

    def __post_init__(self) -> None:
        for name, count in (("canary", self.canary), ("production", self.production)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise DeclarationError(
                    "At least one person approves.", field=name, next_step=f"Write Approvals({name}=1) or more."
                )

    def spec(self) -> dict[str, Any]:
        return {"canary": self.canary, "production": self.production}


@dataclass(frozen=True, eq=False)
class Model:
    """A governed model.

    Args:
        name: lower case; the first part of its asset keys and tables.
        entity: what is decided about; a row of the request view each.
        features: one ``RequestView`` and any number of ``FeatureView``; every column of them is a feature.
        label: what is learned; its rows are those of the request view.
        trainer: how; see ``training.Trainer``.
        gates: what a candidate must pass; ONNX parity is always among them.
        decision: what a score becomes, and the reason text of each feature; None: it only scores.
        split: newest mature rows are the test.
        protected: attributes for fairness gates; declaring one as a feature is an error.
        approvals, rollout, monitor: how it is promoted, rolled out, watched.
        risk_class: which line of the root's policy holds.
        owners: ``team:x`` or e-mail addresses; not in the digest, like ``description`` and ``serving``.
        serving: how versions run online.

    Raises:
        DeclarationError: parts that do not fit together; names the field and the choices.
    """

    name: str
    entity: Entity
    features: Sequence[RequestView | FeatureView]
    label: Label
    trainer: Trainer
    gates: Sequence[Gate]
    decision: Decline | None = None
    split: TimeSplit = field(default_factory=TimeSplit)
    protected: Sequence[Attribute] = ()
    approvals: Approvals = field(default_factory=Approvals)
    rollout: Rollout = field(default_factory=Rollout)
    monitor: Monitor = field(default_factory=Monitor)
    risk_class: RiskClass = "high"
    owners: Sequence[str] = ()
    description: str = ""
    serving: Serving = field(default_factory=Serving)

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        for attribute in ("features", "gates", "protected", "owners"):
            object.__setattr__(self, attribute, tuple(getattr(self, attribute)))
        self._check_views()
        self._check_protected()
        check_unique((gate.name for gate in self.gates), field="gates")
        if self.decision is not None:
            self.decision.check_features(self.feature_names)
        self.monitor.check_features(self.feature_names)
        for owner in self.owners:
            if not _OWNER.fullmatch(owner):
                raise DeclarationError(
                    "This is no owner.", field="owners", next_step='Write "team:credit" or an e-mail address.'
                )

    def _check_views(self) -> None:
        requests = [view for view in self.features if isinstance(view, RequestView)]
        if len(requests) != 1:
            raise DeclarationError(
                f"A model has one request view; there are {len(requests)}.",
                field="features",
                next_step="List exactly one RequestView; stored features are FeatureViews.",
            )
        if requests[0].entity != self.entity:
            raise DeclarationError(
                "The request view is about another entity.", field="entity", next_step=f"Use {requests[0].entity.name}."
            )
        if self.label.rows != requests[0]:
            raise DeclarationError(
                "The label's rows are not the request view's.",
                field="label",
                next_step=f"Write Label(rows={requests[0].name}, …).",
            )
        check_unique(self.feature_names, field="features")
        warn_deprecated(self.name, self.stored_views)
        available = {column.name for column in requests[0].columns} | set(self.entity.keys)
        for view in self.stored_views:
            for key in view.entity.keys:
                check_known(key, available, field=f"{view.name}.entity", what="request column")

    def _check_protected(self) -> None:
        check_unique((attribute.name for attribute in self.protected), field="protected")
        restricted = {attribute.source.name for attribute in self.protected}
        for attribute in self.protected:
            if attribute.name in self.feature_names or attribute.value_column in self.feature_names:
                raise DeclarationError(
                    "A protected attribute is declared as a feature.",
                    field=attribute.name,
                    next_step="Take it out of the features; it is joined only for evaluation and monitoring.",
                )
            if set(attribute.source.keys) != set(self.entity.keys):
                raise DeclarationError(
                    "The restricted source has other keys than the model's entity.",
                    field=attribute.name,
                    next_step=f"Key it by {', '.join(self.entity.keys)}.",
                )
        for source in self.sources:
            if source.name in restricted:
                raise DeclarationError(
                    "A restricted source feeds the features.", field=source.name, next_step="Use another source."
                )
        known = [attribute.name for attribute in self.protected]
        for gate in self.gates:
            if gate.by is not None:
                check_known(gate.by, known, field=f"gates.{gate.name}.by", what="protected attribute")

    @property
    def decline(self) -> Decline:
        """The decision of a model that decides.

        Raises:
            DeclarationError: it only scores.
        """
        if self.decision is None:
            raise DeclarationError(
                "The model only scores.", field="decision", next_step="Declare decision=Decline(above=…, reasons=…)."
            )
        return self.decision

    @cached_property
    def request(self) -> RequestView:
        return next(view for view in self.features if isinstance(view, RequestView))

    @cached_property
    def stored_views(self) -> tuple[FeatureView, ...]:
        return tuple(view for view in self.features if isinstance(view, FeatureView))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Short names in model order: the request's columns, its derived columns, then each stored view's."""
        views: tuple[RequestView | FeatureView, ...] = (self.request, *self.stored_views)
        return tuple(item.name for view in views for item in view.features)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The plain sources that features and label read, restricted ones excluded; sorted by name."""
        found: dict[str, Source] = {}
        for source in (self.request.source, self.label.outcome, *(view.history for view in self.stored_views)):
            found |= {plain.name: plain for plain in plain_sources(source)}
        return tuple(found[name] for name in sorted(found))

    def spec(self) -> dict[str, Any]:
        """What changes a result or what governs it; owners, descriptions and serving are outside."""
        return {
            "format": DEFINITION_FORMAT,
            "kind": "model",
            "name": self.name,
            "entity": self.entity.reference,
            "features": [view.reference for view in (self.request, *self.stored_views)],
            "label": self.label.digest,
            "split": self.split.spec(),
            "protected": sorted((attribute.spec() for attribute in self.protected), key=lambda item: item["name"]),
            "trainer": self.trainer.spec(),
            "gates": sorted((gate.spec() for gate in self.gates), key=lambda item: item["name"]),
            "decision": None if self.decision is None else self.decision.spec(),
            "approvals": self.approvals.spec(),
            "rollout": self.rollout.spec(),
            "monitor": self.monitor.spec(),
            "risk_class": self.risk_class,
        }

    @cached_property
    def digest(self) -> str:
        return document_digest("definition", self.spec())


def plain_sources(source: Source) -> list[Source]:
    """The tables below a source: itself, or those that its SQL reads in the end."""
    if source.sql is None:
        return [source]
    return [plain for item in source.inputs for plain in plain_sources(item)]


def load_models(module: str = "assets") -> dict[str, Model]:
    """The models that a module, or the modules of a package, declare, by name.

    Raises:
        NotFound: there is no such module, or it declares no model.
        DeclarationError: two models have one name.
    """
    try:
        root = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise NotFound(
            f"There is no module {module}.",
            field="--models",
            next_step="Run it in the folder of your code location, or name the module that declares the models.",
        ) from error
    found: dict[str, Model] = {}
    for one in _with_children(root):
        for value in vars(one).values():
            if isinstance(value, Model) and found.setdefault(value.name, value) is not value:
                raise DeclarationError(
                    f"Two models are named {value.name}.", field="name", next_step="Give each model its own name."
                )
    if not found:
        raise NotFound(f"The module {module} declares no model.", next_step="See `docs/tutorial.md`.")
    return found


def _with_children(root: ModuleType) -> list[ModuleType]:
    children = [
        importlib.import_module(f"{root.__name__}.{child.name}")
        for child in pkgutil.iter_modules(getattr(root, "__path__", []))
    ]
    return [root, *children]
