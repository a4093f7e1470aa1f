"""Profiles of windows: what each version decided on, exactly and in sketches, stored once for each set of records.

A window is a month (``YYYY-MM``) or a day (``YYYY-MM-DD``) of request times. A profile's document lies at
``monitoring/<model>/<window>/profile-<12 hex>.json``, where the hex begins the digest of all its inputs: the same
inputs have one document, and the first that was stored stands, since whylogs' sketches differ from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ml_platform.core.digests import canonical_json, document_digest, parse_canonical, sha256_hex, short
from ml_platform.lifecycle.window_records import WindowRecords, monitored_window, read_window, versions_of_record
from ml_platform.model import Model
from ml_platform.platform import Platform
from ml_platform.profiles import WindowProfile
from ml_platform.profiles import profile_window as profile_rows

__all__ = ["VersionProfile", "WindowProfiles", "profile_document", "profile_window"]

PROFILE_FORMAT: Final = "ml-platform/data-profile/1"


@dataclass(frozen=True)
class VersionProfile:
    """What one version decided on in a window.

    Attributes:
        version: the version that decided.
        rows: its decisions of record.
        modes: those by mode.
        refused: requests that its contract refused, by ``field:rule``.
        inputs_digest: of everything that the profile depends on.
        profile: digest of the stored ``window-profile/1``.
        whylogs: digest of the stored whylogs file, or None with ``absent`` saying why.
        document: digest of the document that holds all this.
    """

    version: int
    rows: int
    modes: Mapping[str, int] = field(hash=False)
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
            "modes": dict(self.modes),
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
    if not platform.objects.exists(path):
        platform.objects.create(path, canonical_json(_make_profile(platform, model, records)))
    raw = platform.objects.read(path)
    document = parse_canonical(raw)
    sketches = document["whylogs"]
    return VersionProfile(
        version=records.version.number,
        rows=document["rows"],
        modes=document["modes"],
        refused=document["refused"],
        inputs_digest=key,
        profile=document["profile"],
        whylogs=sketches if isinstance(sketches, str) else None,
        absent=None if isinstance(sketches, str) else sketches["absent"],
        document=sha256_hex(raw),
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
    return profile_document(
        model=model,
        version=records.version.number,
        window=records.window.partition,
        inputs=records.inputs_digest,
        rows=records.table.num_rows,
        modes=records.modes,
        refused=dict(records.refused),
        profile=platform.objects.put(made.exact.stored(records.reference).to_bytes()),
        whylogs=absent if made.sketches is None else platform.objects.put(made.sketches.to_bytes()),
    )


def profile_document(**parts: Any) -> dict[str, Any]:
    """The stored document of a profile: model, version, window, inputs, rows, modes, refused, profile, whylogs."""
    return {"format": PROFILE_FORMAT, **parts}
