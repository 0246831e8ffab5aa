import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils.meters import AverageMeter, MetricMeter


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 50)), min_size=1, max_size=20))
def test_average_is_the_weighted_mean(entries):
    meter = AverageMeter()
    for value, n in entries:
        meter.update(value, n)
    values, weights = zip(*entries, strict=True)
    assert meter.val == values[-1]
    assert meter.avg == pytest.approx(np.average(values, weights=weights), rel=1e-9, abs=1e-6)


def test_metric_meter_line():
    meter = MetricMeter()
    meter.update({"loss": np.float32(0.5), "map": 50})
    meter.update({"loss": 1.0, "map": 100})
    assert str(meter) == "loss 1.0000 (0.7500)\tmap 100.0000 (75.0000)"
    assert str(MetricMeter()) == ""
