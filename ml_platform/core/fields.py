"""What a team declares about a column: its kind, what it may hold, and what to do when it does not."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ml_platform.core.errors import DeclarationError

__all__ = ["Field", "Kind", "Policy", "category", "check_name", "number"]

Policy = Literal["reject", "flag", "default"]
Kind = Literal["number", "category"]
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def check_name(name: str, *, field: str) -> str:
    """A name that is safe as a column, a path segment and a partition key part."""
    if not _NAME.fullmatch(name):
        raise DeclarationError(
            "A name is lower-case letters, digits and underscores, starts with a letter and has at most 63 characters.",
            field=field,
            next_step="Rename it; a title or description may say the rest.",
        )
    return name


@dataclass(frozen=True)
class Field:
    """A declared column and its policies (``reject`` is the default: refuse the row loudly).

    ``range`` is inclusive; a side may be None. ``flag`` lets the row through, encodes the value as missing (unknown,
    null) or as it is (range), and says so in the record; ``default`` uses the declared default and says so too.
    ``public`` categories may appear in the clear in profiles.
    """

    name: str
    kind: Kind
    nullable: bool = False
    range: tuple[float | None, float | None] | None = None
    categories: tuple[str, ...] | None = None
    on_unknown: Policy = "reject"
    on_null: Policy = "reject"
    on_range: Policy = "reject"
    default: float | str | None = None
    public: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, field="name")
        for policy_name in ("on_unknown", "on_null", "on_range"):
            self._check_policy(policy_name, getattr(self, policy_name))
        if self.range is not None:
            self._check_range(self.range)
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise DeclarationError("A category is listed twice.", field=self.name, next_step="List each category once.")
        self._check_default()

    def _check_policy(self, policy_name: str, policy: str) -> None:
        if policy not in get_args(Policy):
            raise DeclarationError(
                f"{policy_name} is not a policy.",
                field=self.name,
                next_step='Choose "reject", "flag" or "default".',
            )
        if policy == "default" and self.default is None:
            raise DeclarationError(
                f"{policy_name}='default' needs a default.",
                field=self.name,
                next_step="Give default=…, or reject.",
            )

    def _check_range(self, bounds: tuple[float | None, float | None]) -> None:
        low, high = bounds
        finite = all(bound is None or math.isfinite(bound) for bound in bounds)
        if self.kind != "number" or not finite or (low is not None and high is not None and low > high):
            raise DeclarationError(
                "A range is (low, high) of finite numbers on a number column.",
                field=self.name,
                next_step="Write range=(0, 100); None leaves a side open.",
            )

    def _check_default(self) -> None:
        if self.default is None:
            return
        wanted = str if self.kind == "category" else (int, float)
        if not isinstance(self.default, wanted) or isinstance(self.default, bool):
            raise DeclarationError(
                f"The default of a {self.kind} column has the wrong type.",
                field=self.name,
                next_step=f"Give a {self.kind}.",
            )
        if self.categories is not None and self.default not in self.categories:
            raise DeclarationError(
                "The default is not a category.", field=self.name, next_step="Choose one of categories."
            )

    def spec(self) -> dict[str, object]:
        """What is in the digest: everything but the description."""
        return {
            "name": self.name,
            "kind": self.kind,
            "nullable": self.nullable,
            "range": None if self.range is None else [None if b is None else float(b) for b in self.range],
            "categories": None if self.categories is None else sorted(self.categories),
            "on_unknown": self.on_unknown,
            "on_null": self.on_null,
            "on_range": self.on_range,
            "default": self.default if isinstance(self.default, str | None) else float(self.default),
            "public": self.public,
        }


def number(
    name: str,
    *,
    nullable: bool = False,
    range: tuple[float | None, float | None] | None = None,  # noqa: A002 - the field's standard term
    on_null: Policy = "reject",
    on_range: Policy = "reject",
    default: float | None = None,
    public: bool = False,
    description: str = "",
) -> Field:
    """A numeric column. Missing values are allowed only where ``nullable=True``."""
    return Field(
        name=name,
        kind="number",
        nullable=nullable,
        range=range,
        on_null=on_null,
        on_range=on_range,
        default=default,
        public=public,
        description=description,
    )


def category(
    name: str,
    *,
    nullable: bool = False,
    categories: tuple[str, ...] | None = None,
    on_unknown: Policy = "reject",
    on_null: Policy = "reject",
    default: str | None = None,
    public: bool = False,
    description: str = "",
) -> Field:
    """A categorical column. Unless declared, its categories are those of the training part, sorted."""
    return Field(
        name=name,
        kind="category",
        nullable=nullable,
        categories=categories,
        on_unknown=on_unknown,
        on_null=on_null,
        default=default,
        public=public,
        description=description,
    )
