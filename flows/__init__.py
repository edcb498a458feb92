"""Studies as Prefect flows, and the command line. Composition only: work is in `tlm`, tracking in `tasks`."""
