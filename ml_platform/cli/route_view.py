"""How the route of a model is shown: a pure function from its document."""

from __future__ import annotations

from typing import Any

from ml_platform.cli.blocks import Block, Fields, Line, Section, Table
from ml_platform.cli.text import moment

__all__ = ["route_blocks"]


def route_blocks(document: dict[str, Any]) -> list[Block]:
    """What answers now, why, and what the registry says about it."""
    route, flip, registry = document["route"], document["flip"], document["registry"]
    rows = [[arm["arm"], str(arm["version"]), f"{arm['share_bp'] / 100:g} %"] for arm in document["serves"]]
    allowed = ", ".join(str(one["version"]) for one in route["allowed_rollbacks"]) or "none"
    blocks: list[Block] = [
        Section(f"{document['model']} is answered by"),
        Table(("arm", "version", "share"), rows),
        Section("The route"),
        Fields(
            [
                ("epoch", str(route["epoch"])),
                ("digest", route["digest"]),
                ("issued", moment(route["issued_at"])),
                ("rests on", f"entry {route['log_index']}"),
                ("applied by", registry.get("actor") or "not known here"),
                ("may roll back to", allowed),
            ]
        ),
    ]
    if flip is not None:
        entered = {True: "yes", False: "not yet", None: "not known here"}[registry.get("flip_entered")]
        blocks += [
            Section("A local rollback outranks it"),
            Fields(
                [
                    ("to version", str(flip["target"])),
                    ("by", flip["principal"]),
                    ("at", moment(flip["issued_at"])),
                    ("why", flip["reason"] or flip["reason_digest"]),
                    ("entered", entered),
                ]
            ),
        ]
    if document["ignored"] is not None:
        blocks.append(Line(f"A route file is ignored: {document['ignored']}"))
    if "away" in registry:
        blocks.append(Line(f"The registry is away: {registry['away']}"))
    return blocks
