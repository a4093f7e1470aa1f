"""The registry: an append-only log of what was trained, approved and promoted, and by whom.

`Registry` is what the other packages use; the rest are the values that go in and come out.
"""

from __future__ import annotations

from ml_platform.registry.approvals import Decision
from ml_platform.registry.candidates import EVALUATION_NAMESPACE
from ml_platform.registry.checkpoints import CheckpointSigner
from ml_platform.registry.events import Entry
from ml_platform.registry.genesis import Member, create, email_commitment
from ml_platform.registry.keyfiles import load_signer, new_key, public_path
from ml_platform.registry.notes import Signer
from ml_platform.registry.policy import policy_document
from ml_platform.registry.proof import InclusionProof
from ml_platform.registry.registry import Registry, TransitionResult
from ml_platform.registry.report import Problem, Report
from ml_platform.registry.sshsig import sign
from ml_platform.registry.state import ModelState, State, VersionState
from ml_platform.registry.writes import AuthorshipClaim, Registration

__all__ = [
    "EVALUATION_NAMESPACE",
    "AuthorshipClaim",
    "CheckpointSigner",
    "Decision",
    "Entry",
    "InclusionProof",
    "Member",
    "ModelState",
    "Problem",
    "Registration",
    "Registry",
    "Report",
    "Signer",
    "State",
    "TransitionResult",
    "VersionState",
    "create",
    "email_commitment",
    "load_signer",
    "new_key",
    "policy_document",
    "public_path",
    "sign",
]
