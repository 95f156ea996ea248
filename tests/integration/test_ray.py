"""Training on a real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput
from aiops.core.model import ModelVersion
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.jobs.compute import Held, InThread
from aiops.models import fitting
from aiops.models.batch_scoring import score_block
from aiops.models.detector_calls import Call
from aiops.models.fit_run import FitRun, silent
from aiops.models.loaded import Loaded
from aiops.models.unfinished import Unfinished

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

STEP, LENGTH = 60_000, 400
MEMORY = 100 * 2**20


@dataclasses.dataclass(frozen=True)
class Tops:
    def __call__(self, batch: Batch, score: NDArray[np.float32] | None) -> Mapping[str, NDArray[np.generic]]:
        return {} if score is None else {"calibration.top": np.nanmax(score, axis=1)}


def where(data: Any, item: float) -> str:
    import ray

    time.sleep(item)
    return str(ray.get_runtime_context().get_node_id())


def refuse(data: Any, item: int) -> None:
    raise InvalidInput("no such thing")


def never() -> None:
    return


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    from aiops.jobs.ray_cluster import RayCluster

    # What the workers unpickle lies in this folder.
    here = {"PYTHONPATH": str(Path(__file__).parents[2])}
    nodes = {"num_cpus": 1, "object_store_memory": MEMORY, "env_vars": here}
    made = Cluster(initialize_head=True, head_node_args={**nodes, "include_dashboard": False})
    made.add_node(**nodes)
    found = RayCluster(made.address)
    yield found
    found.close()
    made.shutdown()


def test_two_nodes_share_the_work(cluster: Any) -> None:
    found = {one.value for one in cluster.run(where, Held(0), [0.5] * 4, never)}
    assert len(found) == 2
    with pytest.raises(InvalidInput, match="no such thing"):
        list(cluster.run(refuse, Held(0), [1], never))


@pytest.mark.nightly
def test_what_is_cancelled_frees_its_node(cluster: Any) -> None:
    asked: list[int] = []

    def stop() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(cluster.run(where, Held(0), [3600.0, 3600.0], stop))
    assert len({one.value for one in cluster.run(where, Held(0), [0.2] * 2, never)}) >= 1


def test_the_cluster_fits_what_a_thread_fits(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CHUNK_POINTS", 2 * LENGTH)
    detector = cast(Detector[Any], build("detectors", "ridge_ar", {"device": "cpu"}, PluginContext("test")))
    values = np.random.default_rng(0).normal(10, 1, (7, LENGTH)).astype(np.float32)
    times = STEP * np.arange(LENGTH, dtype=np.int64)
    batch = Batch(values, np.ones_like(values, bool), times, STEP, tuple(f"s{i}" for i in range(7)))
    states = []
    for name, compute in (("ray", cluster), ("thread", InThread())):
        run = FitRun(detector, time.perf_counter, silent, Unfinished(tmp_path / name), compute)
        state, checks, cold = run.fit(batch, Held(batch), Tops(), None)
        states.append(state)
        assert cold
        assert checks["unscored_share"] < 0.1
        assert run.cpu_s > 0
    for name, value in states[1].arrays.items():
        np.testing.assert_array_equal(states[0].arrays[name], value)
    version = ModelVersion("m", "1", "ridge_ar", "", "", 0)
    rows = {key: row for row, key in enumerate(batch.series_ids)}
    call = Call(Loaded(version, detector, states[1], rows, None), batch)
    [there], [here] = (c.run(score_block, Held(None), [call], never) for c in (cluster, InThread()))
    np.testing.assert_array_equal(there.value.score, here.value.score)
