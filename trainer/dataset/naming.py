"""What the columns of a file are called once the mapping has renamed them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trainer.dataset.errors import listed, problem

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trainer.dataset.errors import DatasetError
    from trainer.dataset.schema import DatasetMapping


def mapped_name(mapping: DatasetMapping, name: str) -> str:
    """The published name of a column that the mapping calls by its name in the file or by its new one."""
    column = mapping.columns.get(name)
    return column.name if column is not None and column.name is not None else name


def name_in_file(mapping: DatasetMapping, name: str) -> str:
    """The other way round: the name in the file of a column called by either of its names."""
    return next((old for old, column in mapping.columns.items() if column.name == name), name)


def choose_columns(
    names: Sequence[str], mapping: DatasetMapping, columns: Collection[str] | None
) -> dict[str, str]:
    """Names in the file of the columns to read, each with its published name, in the file's order.

    `columns` keeps only these, by their published names. Raises DatasetError.
    """
    refuse_duplicates(names)
    for name in mapping.columns:
        if name not in names:
            raise unknown_column(name, names)
    published = {name: mapped_name(mapping, name) for name in names}
    refuse_duplicates(list(published.values()))
    for name in columns or ():
        if name not in published.values():
            raise unknown_column(name, published.values())
    return {name: new for name, new in published.items() if columns is None or new in columns}


def unknown_column(name: str, names: Collection[str]) -> DatasetError:
    """The error for a column that is not there; it lists those that are."""
    return problem(
        "unknown_column", f"There is no column {name!r}; the file has {listed(names)}.", column=name
    )


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raise DatasetError when two columns share a name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise problem(
            "duplicate_column",
            f"More than one column is called {listed(twice)}; give each a name of its own.",
            column=twice[0],
        )
