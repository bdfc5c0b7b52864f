from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from trainer.events import CheckpointSaved, MetricsReported, parse_event


def test_an_event_survives_the_pipe() -> None:
    event = CheckpointSaved(name="model.ckpt", step=3, epoch=1, val_loss=0.5)

    assert parse_event(event.model_dump_json()) == event


def test_a_value_that_is_no_number_is_null_on_the_pipe() -> None:
    line = MetricsReported(step=1, epoch=1, values={"train_loss": None}).model_dump_json()

    assert json.loads(line)["values"] == {"train_loss": None}


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"type": "phase", "phase": "later"}', b'{"type": "unheard of"}']
)
def test_anything_else_on_the_pipe_is_refused(line: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_event(line)
