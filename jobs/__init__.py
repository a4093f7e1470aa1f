"""Which jobs and schedules run in this deployment."""

from jobs.credit_risk import newest_month, score, train
from jobs.governance import features, promote, request, rollback
from jobs.loop import loop

jobs = [train, score, features, request, promote, rollback, *loop]
schedules = [newest_month]

__all__ = ["jobs", "schedules"]
