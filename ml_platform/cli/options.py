"""Arguments and options that several commands share, and how their text is read."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import typer

__all__ = [
    "DEFAULT_MODELS",
    "AcceptOption",
    "AsOfOption",
    "ModelArgument",
    "ModelsOption",
    "PrincipalOption",
    "ReasonOption",
    "VersionArgument",
    "parse_approved_stage",
    "parse_pairs",
    "parse_partition",
    "parse_root_kind",
    "parse_stage",
    "parse_time",
    "time_option",
]

DEFAULT_MODELS: Final = "assets"
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def parse_time(text: str) -> datetime:
    """An aware UTC time; a bare date is its midnight.

    Raises:
        typer.BadParameter: the text is no time, or has no zone.
    """
    from ml_platform.core.clock import parse_utc
    from ml_platform.core.errors import PlatformError

    try:
        return parse_utc(text)
    except (ValueError, PlatformError):
        raise typer.BadParameter("Write a date (2010-01-01) or a UTC time (2010-01-01T12:00:00Z).") from None


def parse_partition(text: str) -> str:
    """A month, ``YYYY-MM``."""
    if not _MONTH.fullmatch(text):
        raise typer.BadParameter("Write a month as YYYY-MM, for example 2010-03.")
    return text


def parse_root_kind(text: str) -> str:
    """``wall`` or ``replay``."""
    if text not in {"wall", "replay"}:
        raise typer.BadParameter("A root is of kind wall or replay.")
    return text


def parse_stage(text: str) -> str:
    """A stage that a version can be moved to."""
    if text not in {"staging", "canary", "production"}:
        raise typer.BadParameter("A version moves to staging, canary or production.")
    return text


def parse_approved_stage(text: str) -> str:
    """A stage that people approve."""
    if text not in {"canary", "production"}:
        raise typer.BadParameter("People approve moves to canary or production.")
    return text


def parse_pairs(items: list[str] | None, option: str) -> dict[str, str]:
    """``name=value`` items as a mapping; values may hold ``=``.

    Raises:
        typer.BadParameter: an item has no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for item in items or []:
        name, separator, value = item.partition("=")
        if not separator or not name.strip() or not value.strip():
            raise typer.BadParameter(f"Write {option} name=value.")
        if found.setdefault(name.strip(), value.strip()) != value.strip():
            raise typer.BadParameter(f"{option} names the same thing twice.")
    return found


def time_option(name: str, text: str) -> Any:
    """An option that takes a time."""
    return typer.Option(name, parser=parse_time, metavar="TIME", help=text)


ModelArgument: TypeAlias = Annotated[str, typer.Argument(help="Name of the model.")]
VersionArgument: TypeAlias = Annotated[int, typer.Argument(min=1, help="Version number.")]
ModelsOption: TypeAlias = Annotated[
    str, typer.Option("--models", metavar="MODULE", help="Module of the current folder that declares the models.")
]
AsOfOption: TypeAlias = Annotated[
    datetime, time_option("--as-of", "Only what was known then is used: a date or a UTC time.")
]
ReasonOption: TypeAlias = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept as evidence.")]
PrincipalOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--principal",
        metavar="ID",
        help="Who acts; else ML_PLATFORM_PRINCIPAL, else the launcher that the root's settings name.",
    ),
]
AcceptOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--accept", metavar="GATE=REASON", help="Accept a gate that did not pass and may be asked about; repeatable."
    ),
]
