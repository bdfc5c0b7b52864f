"""Small datasets as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.dataset.samples import as_csv
from trainer.dataset.errors import DatasetError
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem, DatasetSchema

Content = bytes | str | list[dict[str, Any]]
Describe = Callable[..., DatasetSchema]
Refuse = Callable[..., DatasetProblem]
Write = Callable[[Content], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Bytes as they are, text as UTF-8, rows as CSV."""

    def run(content: Content) -> Path:
        path = tmp_path / "data"
        text = as_csv(content) if isinstance(content, list) else content
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return run


@pytest.fixture
def describe(write: Write) -> Describe:
    """Inspect a file, CSV unless told otherwise, with the mapping's fields as keywords."""

    def run(content: Content, kind: DatasetFormat = "csv", **mapping: Any) -> DatasetSchema:
        return inspect(write(content), kind, DatasetMapping(**mapping))

    return run


@pytest.fixture
def refuse(write: Write) -> Refuse:
    """The problem with a file that is refused."""

    def run(
        content: Content, kind: DatasetFormat = "csv", limits: Any = None, **mapping: Any
    ) -> DatasetProblem:
        keywords = {} if limits is None else {"limits": limits}
        with pytest.raises(DatasetError) as caught:
            inspect(write(content), kind, DatasetMapping(**mapping), **keywords)
        return caught.value.problem

    return run
