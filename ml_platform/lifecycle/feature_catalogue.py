"""Which views there are, whose they are, who uses what, and which definitions nobody needs any more.

Use is read from the contracts of registered versions, never from what somebody wrote down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ml_platform.core.errors import Conflict, NotFound
from ml_platform.features import FeatureView, RequestView, definitions
from ml_platform.features.declaration import Declaration
from ml_platform.features.differences import Difference, differences
from ml_platform.features.tables import done_periods
from ml_platform.lifecycle.online_features import online_store
from ml_platform.model import Model, plain_sources
from ml_platform.platform import Platform
from ml_platform.training.artifact import load_artifact

__all__ = [
    "CatalogueEntry",
    "Retirement",
    "Use",
    "diff_features",
    "feature_catalogue",
    "find_definition",
    "forget_online",
    "retirement",
    "search_features",
]

_NEEDED: Final = ("staging", "canary", "production")
_PREFIX: Final = 8


@dataclass(frozen=True)
class Use:
    """A registered version that reads a definition: which of its features, and the version's stage."""

    model: str
    version: int
    stage: str
    features: tuple[str, ...]
    may_return: bool

    @property
    def needs(self) -> bool:
        """It serves, may serve soon, or a rollback may bring it back."""
        return self.stage in _NEEDED or self.may_return

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, "version": self.version, "stage": self.stage, "features": list(self.features)}


@dataclass(frozen=True)
class CatalogueEntry:
    """One definition of a view: stored in the root, declared here, or both."""

    view: FeatureView | RequestView
    declared_by: tuple[Model, ...]
    users: tuple[Use, ...]

    @property
    def owners(self) -> list[str]:
        said = self.view.about.owners if isinstance(self.view, FeatureView) else ()
        return sorted(said) or sorted({owner for model in self.declared_by for owner in model.owners})

    @property
    def description(self) -> str:
        return self.view.about.description if isinstance(self.view, FeatureView) else ""

    @property
    def sources(self) -> list[str]:
        rows = self.view.history if isinstance(self.view, FeatureView) else self.view.source
        return sorted({source.name for source in plain_sources(rows)})

    def to_json(self) -> dict[str, Any]:
        deprecated = self.view.about.deprecated if isinstance(self.view, FeatureView) else None
        return {
            "reference": self.view.reference,
            "name": self.view.name,
            "kind": self.view.kind,
            "entity": self.view.entity.name,
            "description": self.description,
            "owners": self.owners,
            "sources": self.sources,
            "features": {item.name: item.description for item in self.view.features},
            "declared_by": [model.name for model in self.declared_by],
            "used_by": [use.to_json() for use in self.users],
            "deprecated": None if deprecated is None else deprecated.to_json(),
        }

    def texts(self) -> Iterable[str]:
        """What a search looks at."""
        yield from (self.view.name, self.view.entity.name, self.description, *self.owners, *self.sources)
        yield from (text for item in self.view.features for text in (item.name, item.description))
        yield from (model.name for model in self.declared_by)
        yield from (use.model for use in self.users)


def feature_catalogue(platform: Platform, models: Sequence[Model]) -> list[CatalogueEntry]:
    """Every view that is published in the root or declared by the models, sorted by reference."""
    declared: dict[str, list[Model]] = {}
    views: dict[str, FeatureView | RequestView] = {one.reference: one for one in _published(platform)}
    for model in models:
        both: tuple[FeatureView | RequestView, ...] = (model.request, *model.stored_views)
        for view in both:
            views[view.reference] = view  # what is declared also says what is in no digest
            declared.setdefault(view.reference, []).append(model)
    used = _uses(platform)
    return [
        CatalogueEntry(view, tuple(declared.get(reference, ())), tuple(used.get(reference, ())))
        for reference, view in sorted(views.items())
    ]


def _published(platform: Platform) -> list[FeatureView | RequestView]:
    digests = [path.rpartition("/")[2].removesuffix(".json") for path in platform.objects.list("definitions")]
    kinds = (FeatureView.kind, RequestView.kind)
    loaded = [definitions.load_kinds(platform.objects, f"sha256:{digest}", kinds) for digest in digests]
    return [one for one in loaded if isinstance(one, FeatureView | RequestView)]


def _uses(platform: Platform) -> dict[str, list[Use]]:
    """Definition reference → the versions whose contract names it."""
    found: dict[str, list[Use]] = {}
    for name, known in sorted(platform.registry.state().models.items()):
        for number, version in sorted(known.versions.items()):
            contract = load_artifact(platform.objects, version.digests.artifact).contract
            read: dict[str, list[str]] = {}
            for item in contract.fields:
                reference, _, feature = item.reference.rpartition(":")
                read.setdefault(reference, []).append(feature)
            for reference, features in read.items():
                use = Use(name, number, version.stage, tuple(features), bool(version.productions))
                found.setdefault(reference, []).append(use)
    return found


def search_features(platform: Platform, models: Sequence[Model], text: str) -> list[CatalogueEntry]:
    """The views in whose names, descriptions, owners, sources or users each word of a text occurs; case is ignored."""
    words = text.casefold().split()
    return [
        entry
        for entry in feature_catalogue(platform, models)
        if all(any(word in one.casefold() for one in entry.texts()) for word in words)
    ]


def find_definition(platform: Platform, models: Sequence[Model], name: str) -> Declaration:
    """The definition that a text names: ``view`` is today's declaration, ``view@sha256:…`` a published one.

    At least eight digits tell published ones apart.

    Raises:
        NotFound: there is none, or several; names the choices.
    """
    entries = [entry for entry in feature_catalogue(platform, models) if entry.view.name == name.partition("@")[0]]
    wanted = name.partition("@")[2]
    if wanted:
        long_enough = len(wanted.removeprefix("sha256:")) >= _PREFIX
        found = [one for one in entries if long_enough and one.view.digest.startswith(wanted)]
    else:
        found = [one for one in entries if one.declared_by]
    if len(found) != 1:
        raise NotFound(
            "There is no such definition." if not found else "Several definitions have this name.",
            field=name,
            next_step=f"Known are {', '.join(one.view.reference for one in entries) or 'none of that name'}.",
        )
    return found[0].view


def diff_features(
    platform: Platform, models: Sequence[Model], before: str, after: str
) -> tuple[Declaration, Declaration, list[Difference]]:
    """Two definitions by name, and every place at which they differ.

    Raises:
        NotFound: one of them is not known.
    """
    one, two = (find_definition(platform, models, name) for name in (before, after))
    return one, two, differences(one, two)


@dataclass(frozen=True)
class Retirement:
    """A definition of a stored view: what is held of it, who needs it, and whether it may go from the online store."""

    reference: str
    table: str
    stored_periods: int
    online_points: int
    declared_by: tuple[str, ...]
    needed_by: tuple[Use, ...]
    kept_for: tuple[Use, ...] = field(default=())

    @property
    def may_go(self) -> bool:
        return not self.declared_by and not self.needed_by

    def to_json(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "table": self.table,
            "stored_periods": self.stored_periods,
            "online_points": self.online_points,
            "declared_by": list(self.declared_by),
            "needed_by": [use.to_json() for use in self.needed_by],
            "kept_for": [use.to_json() for use in self.kept_for],
            "may_go": self.may_go,
        }


def retirement(platform: Platform, models: Sequence[Model]) -> list[Retirement]:
    """Every definition of a stored view that is stored or online, and who needs it. Changes nothing.

    Raises:
        StorageFailed: the online store is away.
    """
    online = {one.table: one.points for one in online_store(platform).held()}
    found = []
    for entry in feature_catalogue(platform, models):
        if not isinstance(entry.view, FeatureView):
            continue
        periods, points = len(done_periods(entry.view, platform.lake)), online.get(entry.view.table, 0)
        if periods or points:
            found.append(
                Retirement(
                    entry.view.reference,
                    entry.view.table,
                    periods,
                    points,
                    tuple(model.name for model in entry.declared_by),
                    tuple(use for use in entry.users if use.needs),
                    tuple(use for use in entry.users if not use.needs),
                )
            )
    return found


def forget_online(platform: Platform, models: Sequence[Model], reference: str) -> Retirement:
    """Takes a definition out of the online store, if nobody needs it. Its table stays: records are reproduced from it.

    Raises:
        NotFound: nothing is held of such a definition.
        Conflict: a version in service, one that a rollback may bring back, or a declaration needs it.
    """
    known = {one.reference: one for one in retirement(platform, models)}
    if reference not in known or not known[reference].online_points:
        raise NotFound(
            "The online store holds no such definition.",
            field=reference,
            next_step="`mlp features retire` lists what is held.",
        )
    one = known[reference]
    if not one.may_go:
        needed = [f"{use.model} version {use.version}" for use in one.needed_by] + list(one.declared_by)
        raise Conflict(
            f"The definition is needed by {', '.join(needed)}.",
            field=reference,
            next_step="Archive the version or change the declaration first; nothing was removed.",
        )
    online_store(platform).forget(one.table)
    return one
