"""MLflow's server in one process: `python -m tasks.mlflow_server PORT`. Its database is under TLM_HOME, or that which
TLM_DATABASE_URL names.

`mlflow server` is two processes of 250 MB each, of which the first only waits for the second.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

from tasks.postgres import database_environment
from tasks.tracking.connecting import prepare
from tlm.errors import UserError
from tlm.machine.printing import printable
from tlm.machine.runtime import Runtime

HOST = "127.0.0.1"


def serve(port: int) -> None:
    """Answer on loopback until a signal. Raises UserError for a database that MLflow cannot work with."""
    warnings.simplefilter("ignore")  # what MLflow's modules are told by those of others

    import uvicorn
    from mlflow.server import constants

    local = Runtime.from_environment().model_copy(update={"tracking_uri": None})
    database = database_environment().get("MLFLOW_BACKEND_STORE_URI") or prepare(local)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # who asks does not see what goes wrong here
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: (local.mlflow_folder / "artifacts").resolve().as_uri(),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    uvicorn.run("mlflow.server.fastapi_app:app", host=HOST, port=port, log_level="warning")


def main() -> None:
    try:
        serve(int(sys.argv[1]))
    except UserError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
