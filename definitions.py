"""All that runs in this code location.

Keep the imports at the top: Dagster puts this folder on the import path only while it loads this file, so the folders
beside it cannot be imported later, from within an asset.
"""

from assets.credit_risk import credit_risk
from jobs import jobs, schedules
from ml_platform.orchestration import definitions
from resources import platform
from sensors import sensors

defs = definitions(models=[credit_risk], platform=platform, jobs=jobs, schedules=schedules, sensors=sensors)
