"""``mlp keys``: who may sign, new key pairs, and keys that officers add or revoke."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ml_platform.cli.blocks import Answer, Fields, Line, Table
from ml_platform.cli.frame import Commands, DebugOption, JsonOption, RootOption, new_app, run_framed
from ml_platform.cli.options import parse_pairs
from ml_platform.cli.screen import Screen
from ml_platform.cli.session import Session
from ml_platform.cli.text import NONE

if TYPE_CHECKING:
    from ml_platform.registry.state import KeyState

__all__ = ["commands", "group", "public_line"]

commands = Commands()
_ROLES: Final = ("approver", "officer")

_Principal = Annotated[str, typer.Argument(help="Id of the person, lower case.")]
_Signers = Annotated[
    list[str],
    typer.Option("--officer", metavar="ID=KEYFILE", help="An officer's private key file, to sign with; repeatable."),
]


@commands.add("new", examples=["mlp keys new --principal alice --out keys/alice"])
def new(
    session: Session,  # noqa: ARG001 - a key pair belongs to a person, not to a root
    principal: Annotated[str, typer.Option("--principal", metavar="ID", help="Whose key; becomes its comment.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The new private key file; FILE.pub beside it.")],
) -> Answer:
    """Make an Ed25519 key pair in OpenSSH format: FILE with mode 0600, FILE.pub beside it.

    Nothing is entered in a root: `mlp init --member` or `mlp keys add` does that with the public half. A key made by
    `ssh-keygen -t ed25519` is as good.
    """
    from ml_platform.registry.keyfiles import new_key, public_path
    from ml_platform.registry.sshsig import fingerprint

    line = new_key(out, comment=principal)
    document = {
        "principal": principal,
        "private_key": str(out),
        "public_key": str(public_path(out)),
        "fingerprint": fingerprint(line),
    }
    return Answer(document, [Fields([(name.replace("_", " "), value) for name, value in document.items()])])


@commands.add("list", examples=["mlp keys list --root roots/demo"])
def show_all(session: Session) -> Answer:
    """List every key that the log knows: whose, for what, since when, revoked or not."""
    keys = [_document(key) for key in session.platform().registry.state().keys.values()]
    rows = [(one["principal"], ", ".join(one["roles"]), one["fingerprint"], _entry(one), _status(one)) for one in keys]
    return Answer({"keys": keys}, [Table(("principal", "roles", "fingerprint", "added", "status"), rows)])


@commands.add("show", examples=["mlp keys show alice --root roots/demo"])
def show(session: Session, principal: _Principal) -> Answer:
    """Show one person's keys with their public lines, as `ssh-keygen -Y verify` needs them."""
    from ml_platform.core.errors import NotFound

    keys = [_document(key) for key in session.platform().registry.state().keys_of(principal)]
    if not keys:
        raise NotFound("Nobody of that id has a key.", field="ID", next_step="`mlp keys list` shows who has one.")
    blocks = [
        Fields(
            [
                ("principal", one["principal"]),
                ("roles", ", ".join(one["roles"])),
                ("public key", one["public_key"]),
                ("fingerprint", one["fingerprint"]),
                ("added", _entry(one)),
                ("status", _status(one)),
            ]
        )
        for one in keys
    ]
    return Answer({"principal": principal, "keys": keys}, blocks)


@commands.add(
    "add",
    examples=["mlp keys add carol --key keys/carol --role approver --officer alice=keys/alice --root roots/bank"],
)
def add(
    session: Session,
    principal: _Principal,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The new private key: it signs that it exists.")],
    officer: _Signers,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="approver or officer; repeatable; both by default."),
    ] = None,
    email: Annotated[
        list[str] | None,
        typer.Option("--email", metavar="ADDRESS", help="Of the person's commits; stored as a commitment; repeatable."),
    ] = None,
) -> Answer:
    """Add a person's key, signed by officers other than its owner and by the key itself."""
    from ml_platform.registry.genesis import Member, email_commitment
    from ml_platform.registry.sshsig import public_key_line, sign

    platform = session.platform()
    private = _private(key)
    emails = tuple(email_commitment(platform.secrets.email_salt, one) for one in email or [])
    member = Member(principal, public_key_line(private), tuple(role or _ROLES), emails)
    order = platform.registry.order("add_key", member.body())
    index = platform.registry.add_key(
        order,
        possession=sign(private, order, "key@ml-platform"),
        signatures=_signatures(officer, order, "add_key"),
    )
    document = {"principal": principal, "roles": sorted(member.roles), "log_index": index}
    return Answer(document, [Line(f"The key of {principal} is added by entry {index}.")])


@commands.add(
    "revoke",
    examples=["mlp keys revoke carol --public keys/carol.pub --officer alice=keys/alice --root roots/bank"],
)
def revoke(
    session: Session,
    principal: _Principal,
    public: Annotated[Path, typer.Option("--public", metavar="FILE", help="The public key file.")],
    officer: _Signers,
) -> Answer:
    """Retire a person's key: earlier approvals stay valid for rollbacks, new ones cannot be signed with it."""
    from ml_platform.core.errors import NotFound

    registry = session.platform().registry
    line = " ".join(public_line(public).split()[:2])
    if line not in {key.public_key for key in registry.state().keys_of(principal)}:
        raise NotFound("This person has no such key.", field="--public", next_step="`mlp keys list` shows the keys.")
    order = registry.order("revoke_key", {"public_key": line, "cause": "retired", "suspect_from": None})
    index = registry.revoke_key(order, signatures=_signatures(officer, order, "revoke_key"))
    document = {"principal": principal, "cause": "retired", "log_index": index}
    return Answer(document, [Line(f"The key of {principal} is retired by entry {index}.")])


group = new_app("Who may sign: list, make, show, add and revoke keys; alone it lists them.")
commands.attach(group)


@group.callback(invoke_without_command=True)
def _default(
    context: typer.Context, root: RootOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    if context.invoked_subcommand is None:
        run_framed(show_all, Session(root, Screen(as_json), debug), {})
    elif root is not None or as_json or debug:
        raise typer.BadParameter("Write the options after the subcommand: mlp keys list --root DIR.")


def public_line(file: Path) -> str:
    """The public key line of a ``.pub`` file.

    Raises:
        SettingsError: it is missing or no Ed25519 public key.
    """
    from ml_platform.core.errors import SettingsError
    from ml_platform.registry.keyfiles import raw_public

    if file.suffix != ".pub":
        raise SettingsError(
            "This is no public key file.", field=file.name, next_step="Name the file that ends in .pub."
        )
    raw_public(file)
    return file.read_text().strip()


def _private(file: Path) -> Any:
    from ml_platform.registry.sshsig import load_private_key

    return load_private_key(file)


def _signatures(officers: Sequence[str], order: bytes, action: str) -> dict[str, str]:
    from ml_platform.registry.orders import order_namespace
    from ml_platform.registry.sshsig import sign

    named = parse_pairs(list(officers), "--officer")
    return {principal: sign(_private(Path(file)), order, order_namespace(action)) for principal, file in named.items()}


def _document(key: KeyState) -> dict[str, Any]:
    from ml_platform.registry.sshsig import fingerprint

    return {
        "principal": key.principal,
        "roles": list(key.roles),
        "public_key": key.public_key,
        "fingerprint": fingerprint(key.public_key),
        "added": key.added,
        "revoked": key.revoked,
        "cause": key.cause,
    }


def _entry(key: dict[str, Any]) -> str:
    return "genesis" if key["added"] == 0 else f"entry {key['added']}"


def _status(key: dict[str, Any]) -> str:
    return "active" if key["revoked"] is None else f"{key['cause'] or NONE}, entry {key['revoked']}"
