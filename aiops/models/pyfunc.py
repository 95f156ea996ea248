"""MLflow's way to a version: ``mlflow.pyfunc.load_model("models:/NAME@champion")`` comes here.

The artifact is verified and decrypted by the settings of the machine that loads it (``AIOPS_MODELS__REGISTRY__…``,
``AIOPS_DATA_DIR``), as the service does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from aiops.core import plugins
from aiops.core.anomaly import Batch, State
from aiops.core.errors import InvalidInput
from aiops.core.ports import Detector, PluginContext, system_clock
from aiops.models import flavour
from aiops.models.encryption import key_of
from aiops.models.signing import KEY_FOLDER, Signer
from aiops.settings import load_settings

_GAP_LIMIT = 100_000


class DetectorModel:
    """Scores data frames with the columns ``timestamp`` (ms UTC), ``series`` and ``value``."""

    def __init__(self, detector: Detector[Any], state: State) -> None:
        self._detector = detector
        self._state = state

    def predict(self, frame: Any, params: dict[str, Any] | None = None) -> Any:
        """The rows of ``frame`` with ``score``, ``expected``, ``lower`` and ``upper``, NaN where nothing can be said.

        Raises:
            InvalidInput: a series that the model was not trained on, or times off its step.
        """
        del params
        import pandas as pd

        frame = pd.DataFrame(frame)
        ids = list(dict.fromkeys(frame["series"].tolist()))
        if unknown := sorted(set(ids) - set(self._state.series_ids)):
            raise InvalidInput(f"The model was not trained on {len(unknown)} of the series, such as {unknown[0]!r}.")
        times = frame["timestamp"].to_numpy(np.int64)
        step = self._state.step_ms
        if not len(times):
            return frame.assign(score=[], expected=[], lower=[], upper=[]).drop(columns="value")
        place = (times - times.min()) // step
        if ((times - times.min()) % step).any() or place.max() >= _GAP_LIMIT:
            raise InvalidInput(f"The times are not spaced by the model's step of {step} ms.")
        rows = frame["series"].map({series: row for row, series in enumerate(ids)}).to_numpy(np.int64)
        values = np.full((len(ids), int(place.max()) + 1), np.nan, np.float32)
        values[rows, place] = frame["value"].to_numpy(np.float32)
        grid = times.min() + step * np.arange(values.shape[1], dtype=np.int64)
        batch = Batch(values, np.isfinite(values), grid, step, tuple(ids))
        scores = self._detector.score(self._state.select(ids), batch)
        out = {"timestamp": times, "series": frame["series"].to_numpy()}
        for name in ("score", "expected", "lower", "upper"):
            out[name] = np.asarray(getattr(scores, name), np.float64)[rows, place]
        return pd.DataFrame(out)


def _load_pyfunc(path: str) -> DetectorModel:
    """MLflow's entry point: the folder that holds ``MLmodel``."""
    settings = load_settings()
    folder = Path(path)
    Signer(settings.data_dir / KEY_FOLDER, settings.models.registry).verify(folder)
    state, manifest = flavour.read(folder, key_of(settings.models.registry, settings.store))
    context = PluginContext("pyfunc", system_clock)
    built = plugins.build("detectors", manifest.family, json.loads(manifest.options), context)
    return DetectorModel(cast("Detector[Any]", built), state)
