from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.layout import Layout
from trainer.scaling import (
    FLAT_FLOOR_SHARE,
    FLOOR_SHARE,
    encode_categories,
    fit_scaling,
    scales_of,
    scaling_from_json,
    scaling_to_json,
)
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
    assert scaling_to_json(scaling_from_json(json.loads(json.dumps(content)))) == content
    assert content["categories"] == {"server": ["server-00", "server-01"]}


def fan_scales(series: SeriesData, stranger: SeriesData, history_end: Any) -> Any:
    scaling = fit_scaling(series, parts(series), LAYOUT, "series_robust")
    return scaling, scales_of(
        stranger,
        ("fan",),
        scaling,
        scaling.observed,
        scaling.observed_floors,
        history_end,
        robust=False,
    )


def test_a_new_server_is_scaled_by_what_was_seen_of_it_before_its_history_ends(make_series: Any) -> None:
    series = make_series([100, 90], ("cpu_percent", "plan", "fan"))
    stranger = replace(series, series_names=["server-00", "zz"])
    stranger.observed["fan"][110:120] = False
    history = np.r_[100:110, 120:150]
    scaling, scales = fan_scales(series, stranger, np.array([0, 150]))

    values = series.values["fan"][history].astype(np.float64)
    assert scales[1, 0] == pytest.approx([values.mean(), values.std(ddof=1)])
    assert scales[0, 0] == pytest.approx(scaling.observed[0, 0])
    with pytest.raises(ValueError, match="say where that ends"):
        fan_scales(series, stranger, None)


def test_a_new_server_that_stands_still_has_the_floor_and_one_never_seen_the_fleets_medians(
    make_series: Any,
) -> None:
    series = make_series([100, 90, 80], ("cpu_percent", "plan", "fan"))
    stranger = replace(
        series,
        series_names=["x", "y", "z"],
        values={name: values.copy() for name, values in series.values.items()},
        observed={name: seen.copy() for name, seen in series.observed.items()},
    )
    stranger.values["fan"][:100] = 7.0
    stranger.observed["fan"][100:190] = False
    scaling, scales = fan_scales(series, stranger, stranger.offsets[1:] - 3)

    assert scales[0, 0] == pytest.approx([7.0, scaling.observed_floors[0]])
    assert scales[1, 0] == pytest.approx(np.median(scaling.observed[:, 0], axis=0))


def test_a_series_not_seen_in_the_training_part_has_the_medians_of_the_others_and_no_value_of_its_tail(
    make_series: Any,
) -> None:
    series = make_series([100, 100, 100], ("cpu_percent", "plan", "fan"))
    for name in ("cpu_percent", "fan"):
        series.observed[name][200:270] = False
        series.values[name][200:] = 1e6
    scaling = fit_scaling(series, parts(series), LAYOUT, "series_robust")

    assert scaling.target is not None
    for table in (scaling.target, scaling.observed):
        assert table[2, 0] == pytest.approx(np.median(table[:2, 0], axis=0))
    assert scaling.deviations[0] < 1e3
