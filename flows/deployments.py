"""One flow for each named study: what `prefect.yaml` deploys, and what a Prefect worker loads.

Its one parameter is the study's pydantic model with the named study as default, from which the Prefect UI draws a form.
"""

from __future__ import annotations

from flows.studies import STUDIES
from flows.study import study_flow

globals().update({name.replace("-", "_"): study_flow(name, default=make()) for name, make in STUDIES.items()})
