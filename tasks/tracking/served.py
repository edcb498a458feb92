"""What MLflow serves: fine-tuned models, as code that loads what `tlm predict` loads. No pickle.

MLflow runs this file when it loads a model of `tasks.tracking.registry`; its configuration says which models, and where.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Served(PythonModel):  # type: ignore[misc]
    """A column `text` in; for each text its label, the probability of that, and those of all labels out."""

    def load_context(self, context: PythonModelContext) -> None:
        from tlm.artifacts.store import ArtifactStore
        from tlm.inference.models import Committee
        from tlm.inference.resolve import find_classifiers

        config = context.model_config
        store = ArtifactStore(config["artifacts"])
        self.committee = Committee.load(store, find_classifiers(store, config["models"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        from tlm.errors import UserError
        from tlm.inference.files import check_texts

        texts = model_input["text"].tolist()
        try:
            check_texts(texts, "text")
        except UserError as error:  # a server then answers with this line, and not with a traceback
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        predicted, labels = self.committee.predict(texts), self.committee.labels
        best_N = predicted.best()[:, 0]
        return pd.DataFrame(
            {
                "label": [labels[best] for best in best_N],
                "probability": predicted.probabilities_NC[range(len(texts)), best_N],
                "probabilities": [dict(zip(labels, row, strict=True)) for row in predicted.probabilities_NC.tolist()],
            }
        )


set_model(Served())
