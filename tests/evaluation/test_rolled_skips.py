"""A rolling evaluation's averages of what was skipped: over the questions with an unclicked item, of all windows together."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.learning import SMALL
from xdm.behaviours.rules import BehaviourRules
from xdm.log.store import Store
from xdm.schema import DAY, HOUR
from xdm.training.config import load_config
from xdm.training.rolling import Windows, roll

WINDOWS = Windows(start=1_704_067_200 + 4 * DAY, every=DAY, count=2, horizon=8 * HOUR)


@pytest.mark.parametrize("unclicked_k", [0, 1_000])
def test_averages_are_those_of_the_records(simulated, tmp_path, unclicked_k):
    config = load_config("sdm", None, (*SMALL, "training.epochs=1"))
    rules = BehaviourRules(unclicked_k=unclicked_k)
    metrics = roll(Store(simulated), config, WINDOWS, tmp_path / "out", ks=(20,), rules=rules)
    assert metrics["rules"]["unclicked_k"] == unclicked_k
    having = [one["questions_with_unclicked"] for one in metrics["per_window"]]
    for below in ("", "baselines/popularity/", "baselines/recent_popularity/"):
        records = pq.read_table(tmp_path / "out" / below / "per_user.parquet")
        figures = json.loads((tmp_path / "out" / below / "metrics.json").read_text())
        unclicked = records["unclicked"].to_numpy()
        assert figures["questions_with_unclicked"] == np.count_nonzero(unclicked) == sum(having)
        for name in ("skipped@20", "skipped_category@20"):
            values = [value for value in records[name].to_pylist() if value is not None]
            assert len(values) == np.count_nonzero(unclicked)
            assert figures[name] == (pytest.approx(np.mean(values)) if values else None)
            assert bool(values) == (unclicked_k == 0)
    if unclicked_k == 0:
        assert min(having) != max(having)  # windows of unlike weight: a mean of means would be another figure
