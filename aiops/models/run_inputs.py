"""A snapshot as MLflow shows it among the inputs of a training run."""

from __future__ import annotations

import json
from typing import Any

from aiops.core.model import Dataset


def training_input(dataset: Dataset) -> Any:
    """An ``mlflow.entities.DatasetInput``; imports MLflow."""
    from mlflow.entities import Dataset as MlflowDataset
    from mlflow.entities import DatasetInput, InputTag

    columns = (("series", "string"), ("owner", "string"), ("time", "datetime"), ("value", "float"))
    schema = [{"type": kind, "name": name, "required": False} for name, kind in (*columns, ("observed", "boolean"))]
    profile = {"num_rows": dataset.series * ((dataset.end_ms - dataset.start_ms) // dataset.step_ms)}
    made = MlflowDataset(
        name=dataset.name,
        digest=dataset.id.removeprefix("sha256:")[:32],
        source_type="local",
        source=json.dumps({"uri": dataset.path, "query": dataset.query[:4000]}),
        schema=json.dumps({"mlflow_colspec": schema}),
        profile=json.dumps({**profile, "num_series": dataset.series, "num_observed": dataset.points}),
    )
    return DatasetInput(made, [InputTag("mlflow.data.context", "training")])
