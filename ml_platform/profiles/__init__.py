"""Profiles of data: exact ones in our own format, and whylogs' sketches beside them."""

from __future__ import annotations

from ml_platform.profiles.profile import (
    CategoryProfile,
    NumberProfile,
    ReferenceProfile,
    hashed_category,
    psi,
    score_psi,
)
from ml_platform.profiles.profiling import ProfiledWindow, profile_window
from ml_platform.profiles.window import WindowCategory, WindowNumber, WindowProfile

__all__ = [
    "CategoryProfile",
    "NumberProfile",
    "ProfiledWindow",
    "ReferenceProfile",
    "WindowCategory",
    "WindowNumber",
    "WindowProfile",
    "hashed_category",
    "profile_window",
    "psi",
    "score_psi",
]
