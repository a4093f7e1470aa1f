"""What people start by hand, for every model of this deployment."""

from assets.credit_risk import credit_risk
from ml_platform.orchestration import features_job, promote_job, request_candidate_job, rollback_job

MODELS = [credit_risk]

features = features_job(MODELS)
request = request_candidate_job(MODELS)
promote = promote_job(MODELS)
rollback = rollback_job(MODELS)

__all__ = ["features", "promote", "request", "rollback"]
