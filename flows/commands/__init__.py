"""The commands of `tlm`, by what they are about. Prefect and MLflow are imported only by those that run studies."""
