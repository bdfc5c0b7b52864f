from __future__ import annotations

from core.ids import ID_LENGTH, new_id


def test_ids_sort_by_the_order_they_were_made_in() -> None:
    made = [new_id("job") for _ in range(1000)]

    assert made == sorted(made)
    assert len(set(made)) == 1000


def test_an_id_says_what_it_is_of_and_fits_its_column() -> None:
    made = new_id("job")

    assert made.startswith("job_")
    assert len(made) <= ID_LENGTH
