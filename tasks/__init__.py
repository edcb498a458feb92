"""One Prefect task for each stage: caching by step key, MLflow tracking, progress. The work itself is in `tlm`."""

import tlm  # noqa: F401 – so that `python -m` imports nothing from the folder where the user stands
