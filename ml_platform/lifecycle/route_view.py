"""What serves a model on this machine: read from the route's files; the registry adds who and when, if it is there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ml_platform.core.errors import PlatformError
from ml_platform.core.settings import load_settings
from ml_platform.lifecycle.flipping import read_reason
from ml_platform.platform import Platform
from ml_platform.registry.flip import effective_arms
from ml_platform.registry.routefolder import RouteFolder

__all__ = ["show_route"]


def show_route(settings_file: Path, model: str) -> dict[str, Any]:
    """The route of a model and the local rollback that outranks it, with what the registry says about them.

    Args:
        settings_file: of the root.
        model: model name.

    Returns:
        ``serves`` (what answers now), ``route``, ``flip`` or null, ``ignored`` (why a route file that lies there is not
        followed, or null) and ``registry``: {entry, actor, flip_entered}, or {away: why}.

    Raises:
        NotFound: there is no route.
        Tampered: there is one that does not count, and none ever did.
    """
    files = RouteFolder.of(load_settings(settings_file).root, model)
    signed, made = files.route(), files.flip()
    arms, _ = effective_arms(signed.route, signed.digest, made)
    flip = None
    if made is not None:
        written = read_reason(files, made.reason_digest)
        reason = None if written is None else written.decode(errors="replace")
        flip = {**made.document(), "digest": made.digest, "reason": reason}
    return {
        "model": model,
        "serves": [asdict(arm) for arm in arms],
        "route": {**signed.route.document(), "digest": signed.digest},
        "flip": flip,
        "ignored": files.ignored(),
        "registry": _entered(settings_file, model, signed.digest, None if made is None else made.digest),
    }


def _entered(settings_file: Path, model: str, route: str, flip: str | None) -> dict[str, Any]:
    try:
        platform = Platform.from_settings(settings_file)
        known = platform.registry.state().model(model)
    except PlatformError as error:
        return {"away": str(error)}
    platform.registry.close()
    applied = known.route if known.route is not None and known.route.digest == route else None
    return {
        "entry": None if applied is None else applied.index,
        "actor": None if applied is None else applied.actor,
        "flip_entered": None if flip is None else known.flip is not None and known.flip.digest == flip,
    }
