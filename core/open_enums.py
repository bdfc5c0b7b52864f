"""Enums and words of answers: what there is today, and room for what a later release may say."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field

Known = TypeVar("Known", bound=str)

# For whoever reads answers, a client of an earlier release among them: a word it does not know stays a word.
Open = Annotated[Known | str, Field(union_mode="left_to_right")]
