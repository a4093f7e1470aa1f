"""Where things live: `local` on one machine, `production` in the cluster. ``ML_PLATFORM_DEPLOYMENT`` chooses."""

import os

from resources import local, production

DEPLOYMENTS = {"local": local.platform, "production": production.platform}

platform = DEPLOYMENTS[os.environ.get("ML_PLATFORM_DEPLOYMENT", "local")]

__all__ = ["platform"]
