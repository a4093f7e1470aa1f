"""What the audit log says shows up in Dagster within half a minute, whoever wrote it."""

from assets.credit_risk import credit_risk
from ml_platform.orchestration import reconcile_sensor

reconcile = reconcile_sensor([credit_risk], interval_seconds=30)

__all__ = ["reconcile"]
