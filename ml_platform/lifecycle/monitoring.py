"""How far windows are from what their versions were trained on. The same records give the same report, by digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical
from ml_platform.core.errors import NotEnoughData, NotFound
from ml_platform.lifecycle.training import read_trained
from ml_platform.lifecycle.window_profiles import VersionProfile, profile_window
from ml_platform.model import Model
from ml_platform.monitoring.drift import DriftReport, Limits, measure_drift
from ml_platform.monitoring.severity import Judgement, judge_drift
from ml_platform.platform import Platform
from ml_platform.profiles import ReferenceProfile
from ml_platform.training import load_artifact, seed_of

__all__ = [
    "DriftResult",
    "VersionDrift",
    "drift_document",
    "drift_report",
    "drifted_features",
    "limits_of",
]

DRIFT_FORMAT: Final = "ml-platform/drift-report/1"


@dataclass(frozen=True)
class VersionDrift:
    """How far a window of one version is from its reference, and what is to be said about it."""

    version: int
    profile: str
    reference: str
    report: DriftReport
    judgements: tuple[Judgement, ...]
    document: str

    @property
    def psi(self) -> dict[str, float]:
        """PSI by feature."""
        return self.report.psi

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "profile": self.profile,
            "reference": self.reference,
            **self.report.to_json(),
            "judgements": [one.to_json() for one in self.judgements],
            "document": self.document,
        }


@dataclass(frozen=True)
class DriftResult:
    """The drift of a window, by version."""

    model: str
    window: str
    versions: tuple[VersionDrift, ...]

    @property
    def digest(self) -> str:
        return document_digest("drift-result", {"versions": [one.document for one in self.versions]})

    def version(self, number: int) -> VersionDrift:
        """One version's; `NotFound` where it decided nothing in the window."""
        for one in self.versions:
            if one.version == number:
                return one
        raise NotFound("The version decided nothing in this window.", field="version", next_step="Choose another.")

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "window": self.window,
            "digest": self.digest,
            "versions": [one.to_json() for one in self.versions],
        }


def limits_of(model: Model) -> Limits:
    """The limits that the model declares, and the library's for the rest."""
    return Limits(psi=model.monitor.psi_limit)


def drift_report(platform: Platform, model: Model, window: str) -> DriftResult:
    """Measures a window against the reference of each version that decided in it; stored once for its inputs.

    Raises:
        DataError: the window is neither a month nor a day.
        NotFound: the log knows no such model.
        NotEnoughData: nothing was decided in the window.
    """
    profiles = profile_window(platform, model, window)
    found = [_drift(platform, model, window, one) for one in profiles.versions if one.rows]
    if not found:
        raise NotEnoughData(
            "No decision of record is about a request of this window.",
            field="window",
            next_step=f"Score it, or seal what was answered online; `mlp decisions {model.name}` lists decisions.",
        )
    return DriftResult(model.name, window, tuple(found))


def _drift(platform: Platform, model: Model, window: str, profiled: VersionProfile) -> VersionDrift:
    known = platform.registry.state().version(model.name, profiled.version)
    reference = read_trained(platform, model.name, known.candidate).profile_digest
    limits = limits_of(model)
    report = measure_drift(
        ReferenceProfile.from_json(parse_canonical(platform.objects.get(reference))),
        profiled.read(platform),
        load_artifact(platform.objects, known.digests.artifact).contract,
        critical=model.monitor.critical,
        limits=limits,
        refused=profiled.refused,
        seed=seed_of(profiled.inputs_digest),
    )
    judgements = judge_drift(report, limits)
    about = {
        "model": model.name,
        "version": profiled.version,
        "window": window,
        "profile": profiled.profile,
        "reference": reference,
    }
    digest = platform.objects.put(canonical_json(drift_document(about, limits, report, judgements)))
    return VersionDrift(profiled.version, profiled.profile, reference, report, judgements, digest)


def drift_document(
    about: Mapping[str, Any], limits: Limits, report: DriftReport, judgements: Sequence[Judgement]
) -> dict[str, Any]:
    """The stored document of a report."""
    return {
        "format": DRIFT_FORMAT,
        **about,
        "limits": asdict(limits),
        "report": report.to_json(),
        "judgements": [one.to_json() for one in judgements],
    }


def drifted_features(result: DriftResult) -> dict[str, dict[str, Any]]:
    """Feature → {version, psi, noise, new_rows, severity} of features that moved or have new categories.

    The severity is None where the feature is not critical: nobody is told.
    """
    found: dict[str, dict[str, Any]] = {}
    for version in result.versions:
        firing = {one.subject: one.severity for one in version.judgements if one.holds and one.subject}
        for one in version.report.fields:
            if one.shift.moved or one.new_rows:
                shift = {"version": version.version, "psi": one.shift.psi, "noise": one.shift.noise}
                found[one.name] = shift | {"new_rows": one.new_rows, "severity": firing.get(one.name)}
    return found
