"""Profiles of windows and how far they are from the reference: stored once for each set of inputs.

A window is a month (``YYYY-MM``) or a day (``YYYY-MM-DD``) of request times. Documents lie at
``monitoring/<model>/<window>/<noun>-<12 hex>.json``, where the hex begins the digest of all inputs: the same inputs
give the same document, and what was stored first stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical, sha256_hex, short
from ml_platform.core.errors import NotEnoughData, NotFound
from ml_platform.lifecycle.window_records import WindowRecords, monitored_window, read_window, versions_of_record
from ml_platform.model import Model
from ml_platform.monitoring.drift import DriftReport, Limits, measure_drift
from ml_platform.monitoring.severity import Judgement, judge_drift
from ml_platform.platform import Platform
from ml_platform.profiles import ReferenceProfile, WindowProfile
from ml_platform.profiles import profile_window as profile_rows
from ml_platform.training import seed_of

__all__ = [
    "DriftResult",
    "VersionDrift",
    "VersionProfile",
    "WindowProfiles",
    "drift_report",
    "drifted_features",
    "limits_of",
    "profile_window",
    "store_first",
]

PROFILE_FORMAT: Final = "ml-platform/data-profile/1"
DRIFT_FORMAT: Final = "ml-platform/drift-report/1"


@dataclass(frozen=True)
class VersionProfile:
    """What one version decided on in a window.

    Attributes:
        version: the version that decided.
        rows: its decisions of record.
        refused: requests that its contract refused, by ``field:rule``.
        inputs_digest: of everything that the profile depends on.
        profile: digest of the stored ``window-profile/1``.
        whylogs: digest of the stored whylogs file, or None with ``absent`` saying why.
        document: digest of the document that holds all this.
    """

    version: int
    rows: int
    refused: Mapping[str, int] = field(hash=False)
    inputs_digest: str
    profile: str
    whylogs: str | None
    absent: str | None
    document: str

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "rows": self.rows,
            "refused": dict(self.refused),
            "inputs_digest": self.inputs_digest,
            "profile": self.profile,
            "whylogs": self.whylogs if self.absent is None else {"absent": self.absent},
            "document": self.document,
        }

    def read(self, platform: Platform) -> WindowProfile:
        """The exact profile."""
        return WindowProfile.from_json(parse_canonical(platform.objects.get(self.profile)))


@dataclass(frozen=True)
class WindowProfiles:
    """The profiles of a window, by version."""

    model: str
    window: str
    versions: tuple[VersionProfile, ...]

    @property
    def inputs_digest(self) -> str:
        """Of the inputs of all versions: what the asset is a function of."""
        return document_digest("window-inputs", {"versions": [one.inputs_digest for one in self.versions]})

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "window": self.window,
            "inputs_digest": self.inputs_digest,
            "versions": [one.to_json() for one in self.versions],
        }


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


def store_first(platform: Platform, model: str, window: str, noun: str, key: str, document: Mapping[str, Any]) -> Any:
    """Stores a document of monitoring under the digest of its inputs; returns what is stored there.

    Two processes may make it at once: the first stands, since whylogs' sketches differ from run to run.
    """
    path = f"monitoring/{model}/{window}/{noun}-{short(key)}.json"
    raw = canonical_json(document)
    if platform.objects.create(path, raw):
        return document
    return parse_canonical(platform.objects.read(path))


def profile_window(platform: Platform, model: Model, window: str) -> WindowProfiles:
    """Profiles what each version decided on in a window, once for each set of records.

    Raises:
        DataError: the window is neither a month nor a day.
        NotFound: the log knows no such model.
    """
    platform.registry.state().model(model.name)
    span = monitored_window(window)
    found = [
        _profile(platform, model.name, read_window(platform, model.name, span, version))
        for version in versions_of_record(platform, model.name, span)
    ]
    return WindowProfiles(model.name, window, tuple(found))


def _profile(platform: Platform, model: str, records: WindowRecords) -> VersionProfile:
    key, window = records.inputs_digest, records.window.partition
    path = f"monitoring/{model}/{window}/profile-{short(key)}.json"
    document = parse_canonical(platform.objects.read(path)) if platform.objects.exists(path) else None
    if document is None:
        made = _make_profile(platform, model, records)
        document = store_first(platform, model, window, "profile", key, made)
    sketches = document["whylogs"]
    return VersionProfile(
        version=records.version.number,
        rows=document["rows"],
        refused=document["refused"],
        inputs_digest=key,
        profile=document["profile"],
        whylogs=sketches if isinstance(sketches, str) else None,
        absent=None if isinstance(sketches, str) else sketches["absent"],
        document=sha256_hex(canonical_json(document)),
    )


def _make_profile(platform: Platform, model: str, records: WindowRecords) -> dict[str, Any]:
    made = profile_rows(
        records.table,
        records.reference,
        records.window.start,
        scores=records.scores,
        decisions=records.decisions,
    )
    absent = {"absent": made.absent}
    return {
        "format": PROFILE_FORMAT,
        "model": model,
        "version": records.version.number,
        "window": records.window.partition,
        "inputs": records.inputs_digest,
        "rows": records.table.num_rows,
        "refused": dict(records.refused),
        "profile": platform.objects.put(made.exact.stored(records.reference).to_bytes()),
        "whylogs": absent if made.sketches is None else platform.objects.put(made.sketches.to_bytes()),
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
    from ml_platform.lifecycle.training import read_trained
    from ml_platform.training import load_artifact

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
    document = {
        "format": DRIFT_FORMAT,
        "model": model.name,
        "version": profiled.version,
        "window": window,
        "profile": profiled.profile,
        "reference": reference,
        "limits": {"psi": limits.psi, "noise_level": limits.noise_level, "null_effect": limits.null_effect},
        "report": report.to_json(),
        "judgements": [one.to_json() for one in judgements],
    }
    digest = platform.objects.put(canonical_json(document))
    return VersionDrift(profiled.version, profiled.profile, reference, report, judgements, digest)


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
