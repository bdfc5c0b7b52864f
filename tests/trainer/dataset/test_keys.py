from __future__ import annotations

import numpy as np
import pytest

from trainer.dataset.keys import Codes, share_of_duplicates


@pytest.mark.parametrize("order", ["by series", "by time", "mixed"])
@pytest.mark.parametrize("named", [True, False])
def test_repeated_pairs_are_counted_in_any_order(order: str, named: bool) -> None:
    random = np.random.default_rng(3)
    series = random.integers(0, 4, 300).astype(np.int32)
    times = random.integers(0, 40, 300)
    if order != "mixed":
        place = np.lexsort((times, series) if order == "by series" else (series, times))
        series, times = series[place], times[place]
    groups = Codes(series, 4) if named else None
    pairs = set(zip(series.tolist() if named else [0] * 300, times.tolist(), strict=True))
    assert share_of_duplicates(groups, times) == 1 - len(pairs) / 300
