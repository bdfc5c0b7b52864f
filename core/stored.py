"""Documents that a release has stored or sent, perhaps a later one: what they add to today's is left out."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def read_stored(model: type[Model], value: Any) -> Model:
    """`value` as one of our types, keys left out that this release does not know.

    While a fleet is upgraded, processes of two releases read each other's rows. Raises ValidationError for
    what is no such document, or says something new under a key of today.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        rest = without_unknown_keys(value, error)
        if rest is None:
            raise
        return model.model_validate(rest)


def without_unknown_keys(value: Any, error: ValidationError) -> Any | None:
    """A copy of `value` without what `error` calls unknown; None where it calls nothing so."""
    unknown = [one["loc"] for one in error.errors(include_url=False) if one["type"] == "extra_forbidden"]
    if not unknown:
        return None
    known = copy.deepcopy(value)
    for *way, key in unknown:
        holder = known
        for step in way:
            holder = holder[step]
        del holder[key]
    return known
