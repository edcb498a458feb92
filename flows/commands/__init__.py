"""The commands of `tlm`, by what they are about. Prefect and MLflow are imported only by those that run studies."""

from flows.commands import artifacts, studies, tracking, tuning, workers
from flows.commands.base import app, errors

__all__ = ["app", "artifacts", "errors", "studies", "tracking", "tuning", "workers"]
