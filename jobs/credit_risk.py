"""Credit risk is trained on request and decides each month's applications in the morning after the month ends."""

from assets.credit_risk import credit_risk
from ml_platform.orchestration import batch_schedule, score_job, train_job

train = train_job(credit_risk)
score = score_job(credit_risk)
newest_month = batch_schedule(credit_risk, cron="0 6 * * *")

__all__ = ["newest_month", "score", "train"]
