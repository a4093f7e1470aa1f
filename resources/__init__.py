"""Where things live: `local` on one machine, `production` in the cluster. ``ML_PLATFORM_DEPLOYMENT`` chooses."""

import os

from ml_platform.core.errors import SettingsError
from resources import local, production

DEPLOYMENTS = {"local": local.platform, "production": production.platform}

_chosen = os.environ.get("ML_PLATFORM_DEPLOYMENT", "local")
if _chosen not in DEPLOYMENTS:
    raise SettingsError(
        "There is no such deployment.", field="ML_PLATFORM_DEPLOYMENT", next_step=f"Choose {' or '.join(DEPLOYMENTS)}."
    )
platform = DEPLOYMENTS[_chosen]

__all__ = ["platform"]
