"""Answers whose schemas live with the HTTP server, which a client does not have."""

from __future__ import annotations

from pydantic import BaseModel

from trainer.dataset.schema import Finding


class DatasetReport(BaseModel):
    """What is odd about the data: each kind counted over all series, with its first examples."""

    dataset_id: str
    row_count: int
    series_count: int
    findings: list[Finding]
