"""Commands that move a version: approve, promote, roll back, restore. They work by the log alone, without team code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ml_platform.cli.blocks import Answer, Line
from ml_platform.cli.frame import Commands
from ml_platform.cli.options import (
    AcceptOption,
    ModelArgument,
    PrincipalOption,
    ReasonOption,
    VersionArgument,
    parse_approved_stage,
    parse_pairs,
    parse_stage,
)
from ml_platform.cli.session import Session

if TYPE_CHECKING:
    from ml_platform.lifecycle.approving import Approved
    from ml_platform.lifecycle.promotion import Transitioned

__all__ = ["commands", "read_file"]

commands = Commands()
NAMESPACE: Final = "promote@ml-platform"

_OptionalReason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept as evidence.")]
_ApprovedStage = Annotated[
    str | None,
    typer.Option("--to", parser=parse_approved_stage, metavar="STAGE", help="canary or production."),
]


@commands.add(
    "approve",
    examples=[
        'mlp approve credit_risk 1 --to production --key keys/bob --reason "Reviewed the evaluation"',
        'mlp approve credit_risk 1 --to canary --key keys/bob --reason "…" --accept calibrated="few defaults yet"',
        'mlp approve credit_risk 1 --to production --reason "Reviewed" --payload-out approval.json',
        f"ssh-keygen -Y sign -f keys/bob -n {NAMESPACE} approval.json",
        "mlp approve credit_risk 1 --payload approval.json --signature approval.json.sig",
    ],
)
def approve(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    to: _ApprovedStage = None,
    reason: _OptionalReason = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Your private key: sign and enter at once.")
    ] = None,
    ask_passphrase: Annotated[
        bool, typer.Option("--ask-passphrase", help="The key is encrypted: ask for its passphrase.")
    ] = False,
    accept: AcceptOption = None,
    payload_out: Annotated[
        Path | None, typer.Option("--payload-out", metavar="FILE", help="Write the exact bytes to sign; enter nothing.")
    ] = None,
    payload: Annotated[
        Path | None, typer.Option("--payload", metavar="FILE", help="Bytes that were written and signed elsewhere.")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="Their armored SSH signature.")
    ] = None,
) -> Answer:
    """Approve one move of one version by signing it; an author of the version cannot.

    Sign here with --key, or write the bytes with --payload-out, sign them where your key is, and enter them with
    --payload and --signature. Every gate that did not pass needs your decision: --accept GATE=REASON.
    """
    if payload is not None or signature is not None:
        return _enter(session, model, version, payload, signature)
    if (key is None) == (payload_out is None):
        raise typer.BadParameter("Give one of --key, --payload-out, or --payload with --signature.")
    if to is None or reason is None:
        raise typer.BadParameter("Give --to and --reason.")
    from ml_platform.lifecycle import approving

    accepted = parse_pairs(accept, "--accept")
    if payload_out is not None:
        raw = approving.approval_payload(session.platform(), model, version, to, reason=reason, accept=accepted)
        return _written(model, version, payload_out, raw)
    made = approving.approve(
        session.platform(),
        model,
        version,
        to,
        key=key or Path(),
        reason=reason,
        accept=accepted,
        passphrase=_passphrase() if ask_passphrase else None,
    )
    return _approved(made)


def _enter(session: Session, model: str, version: int, payload: Path | None, signature: Path | None) -> Answer:
    from ml_platform.core.errors import ApprovalInvalid
    from ml_platform.lifecycle import approving
    from ml_platform.registry.approvals import parse_payload

    if payload is None or signature is None:
        raise typer.BadParameter("--payload and --signature belong together.")
    raw, armored = read_file(payload, "--payload"), read_file(signature, "--signature").decode(errors="replace")
    document = parse_payload(raw)
    if (document["model"], document["version"]) != (model, version):
        raise ApprovalInvalid(
            "The signed payload is about another model or version.",
            field="--payload",
            next_step=f"It approves {document['model']} {document['version']}.",
        )
    return _approved(approving.enter_approval(session.platform(), raw, armored))


def _written(model: str, version: int, file: Path, raw: bytes) -> Answer:
    from ml_platform.core.digests import sha256_hex
    from ml_platform.core.files import write_atomically

    write_atomically(file, raw)
    sign = f"ssh-keygen -Y sign -f KEY -n {NAMESPACE} {file}"
    enter = f"mlp approve {model} {version} --payload {file} --signature {file}.sig"
    document = {
        "payload": str(file),
        "digest": f"sha256:{sha256_hex(raw)}",
        "namespace": NAMESPACE,
        "sign": sign,
        "enter": enter,
    }
    return Answer(document, [Line(f"Wrote {file}; nothing is entered yet. Sign it: {sign}"), Line(f"Then: {enter}")])


def _approved(made: Approved) -> Answer:
    text = f"The approval of {made.model} version {made.version} for {made.to} is entry {made.log_index}."
    return Answer(made.to_json(), [Line(text)])


@commands.add(
    "promote",
    examples=[
        'mlp promote credit_risk 1 --to staging --reason "Passed its gates"',
        'mlp promote credit_risk 1 --to production --reason "Canary was clean" --principal alice --root roots/demo',
    ],
)
def promote(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    to: Annotated[
        str, typer.Option("--to", parser=parse_stage, metavar="STAGE", help="staging, canary or production.")
    ],
    reason: ReasonOption,
    principal: PrincipalOption = None,
) -> Answer:
    """Move a version one stage forward, if gates, policy and approvals allow it; what it displaces is archived."""
    from ml_platform.lifecycle import promotion

    platform = session.platform()
    who = session.principal(principal, platform)
    if to == "staging":
        return _moved(promotion.stage(platform, model, version, principal=who, reason=reason))
    return _moved(promotion.promote(platform, model, version, to, principal=who, reason=reason))


@commands.add(
    "rollback",
    examples=[
        'mlp rollback credit_risk --reason "Declines doubled since noon"',
        'mlp rollback credit_risk --to-version 3 --reason "Version 4 and 5 share the fault" --principal alice',
    ],
)
def rollback(
    session: Session,
    model: ModelArgument,
    reason: ReasonOption,
    to_version: Annotated[
        int | None,
        typer.Option("--to-version", min=1, metavar="N", help="Which; else the production version before this one."),
    ] = None,
    principal: PrincipalOption = None,
) -> Answer:
    """Put the production version before this one back at once; it needs a reason, no new approval.

    The route is flipped first: that needs neither registry nor network, and routers follow with their next request.
    Then the registry is told; where it is away, the flip stands, and the next command that writes enters it.
    """
    from ml_platform.lifecycle import promotion

    who = session.named_principal(principal)
    return _moved(
        promotion.rollback(session.settings_file(), model, to_version=to_version, principal=who, reason=reason)
    )


@commands.add("restore", examples=['mlp restore credit_risk 2 --reason "The fault was in the source, now mended"'])
def restore(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    reason: ReasonOption,
    principal: PrincipalOption = None,
) -> Answer:
    """Put a version that was rolled back into production again, under the approvals that it had.

    As with `rollback`, the route is flipped first.
    """
    from ml_platform.lifecycle import promotion

    who = session.named_principal(principal)
    return _moved(promotion.restore(session.settings_file(), model, version, principal=who, reason=reason))


@commands.add("archive", examples=['mlp archive credit_risk 3 --reason "The canary declines twice as many"'])
def archive(
    session: Session,
    model: ModelArgument,
    version: VersionArgument,
    reason: ReasonOption,
    principal: PrincipalOption = None,
) -> Answer:
    """Give up a version that is not in production; one in canary loses its requests at once."""
    from ml_platform.lifecycle import promotion

    platform = session.platform()
    who = session.principal(principal, platform)
    return _moved(promotion.archive(platform, model, version, principal=who, reason=reason))


@commands.add("route", examples=["mlp route credit_risk", "mlp route credit_risk --json"])
def route(session: Session, model: ModelArgument) -> Answer:
    """Show what serves a model here: arms, epoch, allowed rollbacks, and the local rollback that outranks them.

    It is read from the route's files, so it works while the registry is away.
    """
    from ml_platform.cli.route_view import route_blocks
    from ml_platform.lifecycle.route_view import show_route

    document = show_route(session.settings_file(), model)
    return Answer(document, route_blocks(document))


def _moved(made: Transitioned) -> Answer:
    if made.pending is not None:
        text = f"{made.model} version {made.version} answers all requests here, by a local rollback."
        later = "The registry does not have it yet; the next command that writes enters it."
        return Answer(made.to_json(), [Line(text), Line(later), Line(f"Why not: {made.pending}")])
    archived = "" if made.archived is None else f"; version {made.archived} is archived"
    text = f"{made.model} version {made.version}: {made.source} → {made.to}{archived} (entry {made.log_index})."
    return Answer(made.to_json(), [Line(text)])


def read_file(file: Path, option: str) -> bytes:
    """A file's bytes; `NotFound` names the option where there is none."""
    from ml_platform.core.errors import NotFound

    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFound("There is no such file.", field=option, next_step="Check the path.") from None


def _passphrase() -> bytes:
    from getpass import getpass

    return getpass("Passphrase of the key: ").encode()
