"""A logged decision together with the very bytes that will be proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ml_platform.core.contract import Contract
from ml_platform.core.rows import encode_row
from ml_platform.serving.online_record import decision_parts, decode_header, decode_section
from ml_platform.serving.record import SUBJECT_ROLE, Header, Section, commitment, record_leaf

__all__ = ["Contracts", "RawDecision"]

Contracts = Callable[[str], Contract]
"""The contract of a digest."""


@dataclass(frozen=True, slots=True)
class RawDecision:
    """A logged decision, and the bytes of header and section as they stand in the log."""

    header: Header
    section: Section
    salt: bytes
    raw_header: bytes
    raw_section: bytes

    @classmethod
    def of(cls, payload: bytes, contracts: Contracts) -> RawDecision:
        """The decision of a frame.

        Raises:
            IntegrityError: it is none.
            NotFound: nobody knows its contract.
        """
        raw_header, raw_section, salt = decision_parts(payload)
        header = decode_header(raw_header)
        section = decode_section(raw_section, contracts(header.contract_digest))
        return cls(header, section, salt, raw_header, raw_section)

    @property
    def entity_key(self) -> bytes:
        """``row/1`` bytes of the entity key."""
        return encode_row(self.section.keys)

    def commitment(self) -> bytes:
        """Of the subject's section."""
        return commitment(self.salt, self.raw_section)

    def leaf(self) -> bytes:
        """Of the whole record."""
        return record_leaf(self.raw_header, [(SUBJECT_ROLE, self.commitment())])
