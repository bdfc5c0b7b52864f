from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainer.prepare import PreparedRun, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.dataset.series import SeriesData

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def prepared(make_dataset: Any, make_spec: Any, plain_cpu: Any, tmp_path: Path) -> Callable[..., PreparedRun]:
    """A prepared run on these series, with unobserved values in the midst of them if there is to be a gap."""

    def build(series: SeriesData, *, gap: bool) -> PreparedRun:
        if gap:
            series.observed["cpu_percent"][15:22] = False
        return prepare(make_spec(), make_dataset(series, tmp_path / "data.parquet"), plain_cpu)

    return build


@pytest.fixture(scope="module")
def followers_find_the_package() -> Iterator[None]:
    """The tests run from a working tree, and what they start does not look into its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        yield
