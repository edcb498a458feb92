"""What merely runs an experiment: places, device, workers. Never part of a result's identity."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from tlm.errors import UserError
from tlm.machine.files import reason
from tlm.machine.places import ARTIFACTS, check_home, folder_name, is_url

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
PACKAGE_PARENT = Path(__file__).resolve().parents[2]
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""In the environment of a Python process, and of all that it starts: the current folder is no place to import from."""


def default_home() -> str:
    """The checkout, when `tlm` runs from one; otherwise the current directory."""
    return str(PACKAGE_PARENT if (PACKAGE_PARENT / "pyproject.toml").is_file() else Path.cwd())


def _workers(isolate: bool) -> int:
    return max(1, os.cpu_count() or 1) if isolate else 1


def trains_here(runtime: Runtime) -> bool:
    """Whether this machine trains, and not others that an engine sends steps to."""
    return runtime.engine == "threads"


class Runtime(BaseModel):
    """Where and how stages run.

    `home` (TLM_HOME) is everything written: `data/artifacts`, `data/catalogue.duckdb`, `mlflow/`, Prefect's home. It may
    be an fsspec URL. `data_root` (TLM_DATA_ROOT) is the source files, only ever read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: str = Field(default_factory=default_home)
    data_root: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    isolate: bool = Field(
        True, description="train in child processes, which a time-out can end; otherwise one at a time"
    )
    fork: bool = Field(
        True, description="on Linux, fork these processes from one that has imported torch; otherwise each imports it"
    )
    workers: PositiveInt = Field(default_factory=lambda known: _workers(known["isolate"]), description="stages at once")
    threads: PositiveInt = Field(1, description="CPU threads for each training process")
    stage_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="seconds for one training stage"
    )
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(
        60, description="between two checkpoints of a training stage, at least; 0 writes one after each step"
    )
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="GiB that each training process on the CPU may use; default: what the machine has free"
    )
    gpu_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="of a GPU that each training takes, where an engine puts several on one"
    )
    engine: str = Field("threads", description="what runs a study's tasks (`tasks.engines`)")
    tracking_uri: str | None = Field(None, description="MLflow server; default: SQLite under home")

    @model_validator(mode="after")
    def _one_at_a_time_in_one_process(self) -> Self:
        if self.workers > 1 and not self.isolate:
            raise UserError(
                f"workers={self.workers} with isolate=False: trainings in one process would draw from one stream of random "
                "numbers.",
                "Use workers=1, or isolate=True.",
            )
        return self

    @classmethod
    def from_environment(cls, **given: object) -> Runtime:
        """Read TLM_HOME, TLM_DATA_ROOT, TLM_DEVICE, TLM_WORKERS, TLM_THREADS, TLM_STAGE_TIMEOUT, TLM_CHECKPOINT_SECONDS,
        TLM_MEMORY_GIB, TLM_GPU_SHARE, TLM_FORK, TLM_ENGINE, MLFLOW_TRACKING_URI; `given` wins.

        Raises:
            UserError: naming the field that has a wrong value; if TLM_HOME would not be the same place to everything that
                writes there.
        """
        names = {
            "home": "TLM_HOME",
            "data_root": "TLM_DATA_ROOT",
            "device": "TLM_DEVICE",
            "workers": "TLM_WORKERS",
            "threads": "TLM_THREADS",
            "stage_timeout": "TLM_STAGE_TIMEOUT",
            "checkpoint_seconds": "TLM_CHECKPOINT_SECONDS",
            "memory_gib": "TLM_MEMORY_GIB",
            "fork": "TLM_FORK",
            "gpu_share": "TLM_GPU_SHARE",
            "engine": "TLM_ENGINE",
            "tracking_uri": "MLFLOW_TRACKING_URI",
        }
        values: dict[str, object] = {field: os.environ[name] for field, name in names.items() if os.environ.get(name)}
        values.update({field: value for field, value in given.items() if value is not None})
        for field in ("home", "data_root"):
            if field in values and not is_url(str(values[field])):
                values[field] = os.path.abspath(os.path.expanduser(str(values[field])))
        check_home(str(values.get("home", default_home())))
        try:
            runtime = cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            known = f" ({names[field]})" if field in names else ""
            raise UserError(f"{field}{known}: {problem['msg']} (got {problem.get('input')!r}).") from error
        if not runtime.data_root:
            runtime = runtime.model_copy(update={"data_root": f"{runtime.home}/data/raw"})
        return runtime

    @property
    def is_local(self) -> bool:
        return not is_url(self.home)

    @property
    def artifacts(self) -> str:
        return f"{self.home}{ARTIFACTS}"

    @property
    def state(self) -> Path:
        """Local folder for state that cannot live in an object store: the databases of DuckDB, MLflow, Prefect. One for
        each home."""
        return Path(self.home) if self.is_local else Path(default_home()) / "data" / "homes" / folder_name(self.home)

    @property
    def catalogue(self) -> Path:
        return self.state / "data" / "catalogue.duckdb"

    @property
    def tuning(self) -> Path:
        """The folders of searches."""
        return self.state / "data" / "tuning"

    @property
    def precisions(self) -> Path:
        """How fast each precision was (`tlm.cost.precision`), a file for each processor and shape."""
        return self.state / "data" / "precision"

    @property
    def mlflow_folder(self) -> Path:
        return self.state / "mlflow"

    @property
    def mlflow_url(self) -> str:
        """Where links to runs lead: the tracking server, or the one that `make ui` starts."""
        uri = self.tracking_uri or ""
        return (
            uri.rstrip("/")
            if uri.startswith("http")
            else f"http://127.0.0.1:{os.environ.get('TLM_MLFLOW_PORT', '5000')}"
        )

    @property
    def prefect_home(self) -> Path:
        return self.state / "data" / "prefect"

    @property
    def trains_on_gpu(self) -> bool:
        """Whether the device is a GPU, known without torch."""
        return self.device == "cuda" or (self.device == "auto" and NVIDIA_DRIVER.exists())

    def check_writable(self) -> None:
        """Raise UserError unless something can be written under home; leaves nothing behind."""
        if not self.is_local:
            return
        folder = Path(self.home)
        try:
            while not os.path.lexists(folder):
                folder = folder.parent
            probe = folder / f".tlm-write-probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"TLM_HOME={self.home} is not writable ({reason(error)}).",
                "Point TLM_HOME at a folder you can write to.",
            ) from error

    def torch_device(self) -> str:
        """The device to train on. Raises UserError if `cuda` is asked for and there is none: never a fallback."""
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device=cuda was asked for, but torch sees no CUDA device.", "Use --device cpu.")
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device
