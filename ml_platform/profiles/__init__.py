"""Profiles of data: our own format, without a vendor."""

from __future__ import annotations

from ml_platform.profiles.profile import CategoryProfile, NumberProfile, ReferenceProfile, psi, score_psi

__all__ = ["CategoryProfile", "NumberProfile", "ReferenceProfile", "psi", "score_psi"]
