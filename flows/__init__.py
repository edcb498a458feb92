"""Studies as Prefect flows, and the command line. Composition only: work is in `tlm`, tracking in `tasks`."""

import tlm  # noqa: F401 – so that `python -m` imports nothing from the folder where the user stands
