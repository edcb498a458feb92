"""One Prefect task for each stage: caching by step key, MLflow tracking, progress. The work itself is in `tlm`."""
