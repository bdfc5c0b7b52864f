from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.layout import Layout
from trainer.scaling import FLAT_FLOOR_SHARE, FLOOR_SHARE, encode_categories, fit_scaling, scaling_to_json
from trainer.split import Split, split_series

if TYPE_CHECKING:
    from trainer.dataset.series import SeriesData

LAYOUT = Layout(("cpu_percent",), (), ("plan",), ("fan",), ("server",))


def parts(series: SeriesData) -> Split:
    return split_series(
        series, encoder_length=6, horizon=3, validation_split=0.2, test_split=0.1, window_stride=1
    )


def test_scales_are_fitted_on_the_training_part_alone(make_series: Any) -> None:
    series = make_series([100], ("cpu_percent", "plan", "fan"))
    before = scaling_to_json(fit_scaling(series, parts(series), LAYOUT, "series_robust"))
    for values in series.values.values():
        values[70:] = 1e6

    assert scaling_to_json(fit_scaling(series, parts(series), LAYOUT, "series_robust")) == before


def test_masked_values_have_no_part_in_the_scales(make_series: Any) -> None:
    series = make_series([100], ("cpu_percent", "plan", "fan"))
    series.observed["cpu_percent"][10:20] = False
    before = fit_scaling(series, parts(series), LAYOUT, "series_standard").target
    series.values["cpu_percent"][10:20] = 1e6
    after = fit_scaling(series, parts(series), LAYOUT, "series_standard").target

    assert before is not None
    assert after is not None
    assert np.array_equal(before, after)


def test_the_floor_is_a_share_of_the_usual_spread_of_the_series_that_move(make_series: Any) -> None:
    series, layout = make_series([100, 100, 100]), Layout(("cpu_percent",), (), (), (), ())
    series.values["cpu_percent"][:100] = 5.0
    split = parts(series)
    moving = [series.values["cpu_percent"][100:170].std(), series.values["cpu_percent"][200:270].std()]

    (floor,) = fit_scaling(series, split, layout, "window_robust").floors

    assert floor == pytest.approx(FLOOR_SHARE * np.median(moving), rel=1e-5)


def test_a_metric_that_never_moves_has_a_floor_that_fits_its_magnitude(make_series: Any) -> None:
    series, layout = make_series([100]), Layout(("cpu_percent",), (), (), (), ())
    series.values["cpu_percent"][:] = 2e9

    (floor,) = fit_scaling(series, parts(series), layout, "window_robust").floors

    assert floor == pytest.approx(2e9 * FLAT_FLOOR_SHARE)


def test_a_metric_of_tiny_numbers_is_scaled_like_any_other(make_series: Any) -> None:
    series, layout = make_series([100, 100]), Layout(("cpu_percent",), (), (), (), ())
    (floor,) = fit_scaling(series, parts(series), layout, "window_robust").floors
    series.values["cpu_percent"] *= 1e-9

    assert fit_scaling(series, parts(series), layout, "window_robust").floors[0] == pytest.approx(
        floor * 1e-9
    )


def test_a_constant_known_covariate_does_not_divide_by_zero(make_series: Any) -> None:
    series = make_series([100], ("cpu_percent", "plan", "fan"))
    series.values["plan"][:] = 3.0

    assert fit_scaling(series, parts(series), LAYOUT, "window_robust").known.tolist() == [[3.0, 1.0]]


def test_unknown_categories_have_code_zero() -> None:
    assert encode_categories(["a", "b"], ["b", "x", "a", "nan"]).tolist() == [2, 0, 1, 0]


def test_the_scaling_is_plain_json(make_series: Any) -> None:
    series = make_series([100, 90], ("cpu_percent", "plan", "fan"))
    content = scaling_to_json(fit_scaling(series, parts(series), LAYOUT, "series_robust"))

    assert json.loads(json.dumps(content)) == content
    assert content["categories"] == {"server": ["server-00", "server-01"]}
