"""What stored records need to be read: the contract of a digest, and what a model decides about, from the log alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from ml_platform.core.contract import Contract
from ml_platform.core.errors import NotFound, Tampered
from ml_platform.features import RequestView, definitions
from ml_platform.governance.parts import Parts
from ml_platform.governance.reading import definition, digest_of
from ml_platform.serving.online_columns import EntityOf
from ml_platform.training import load_artifact

__all__ = ["KnownContracts", "known_entity", "request_view"]


@dataclass
class KnownContracts:
    """The contracts of registered versions by digest; each is read and checked once."""

    parts: Parts
    _known: dict[str, Contract] = field(default_factory=dict)

    def __call__(self, digest: str) -> Contract:
        """The contract.

        Raises:
            NotFound: no registered version has it.
            Tampered: the version's artifact holds another one.
        """
        if digest not in self._known:
            self._known[digest] = self._load(digest)
        return self._known[digest]

    def _load(self, digest: str) -> Contract:
        models = self.parts.registry.state().models.values()
        artifacts = {
            version.digests.artifact
            for model in models
            for version in model.versions.values()
            if version.digests.contract == digest
        }
        if not artifacts:
            raise NotFound(
                "No registered version has the contract of a record.",
                field="contract_digest",
                next_step="Check that the record is of this root.",
            )
        contract = load_artifact(self.parts.objects, min(artifacts)).contract
        if contract.digest != digest:
            raise Tampered(
                "A version's artifact holds another contract than the log says.",
                field=digest,
                next_step="Restore the artifact from a backup.",
            )
        return contract


def known_entity(parts: Parts, model: str) -> EntityOf:
    """What a model decides about, by its newest declaration.

    Raises:
        NotFound: no such model, or nothing of it is declared here.
    """
    entity = request_view(parts, model).entity
    return EntityOf(entity.name, entity.personal)


def request_view(parts: Parts, model: str) -> RequestView:
    """The request view of a model's newest declaration; raises ``NotFound`` where there is none."""
    known = parts.registry.state().model(model)
    newest = max(known.candidates.values(), key=lambda candidate: candidate.requested, default=None)
    if newest is None:
        raise NotFound("The model has no candidate.", field="model", next_step="`mlp train` makes one.")
    for reference in definition(parts.objects, newest.spec)["features"]:
        view = definitions.load(parts.objects, digest_of(reference))
        if isinstance(view, RequestView):
            return view
    raise NotFound("The declaration names no request view.", field="features", next_step="Restore its definitions.")
