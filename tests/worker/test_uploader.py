from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from core.errors import LeaseLost, StorageUnavailable
from core.storage import StoredObject
from trainer.events import CheckpointSaved
from worker.uploader import Upload, Uploader

SOON = 10.0


class Store:
    """Stands for storage and table; may be held shut, or fail at first."""

    def __init__(self, *errors: Exception, publish_errors: tuple[Exception, ...] = ()) -> None:
        self.errors = list(errors)
        self.publish_errors = list(publish_errors)
        self.contents: list[str] = []
        self.published: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.entered = threading.Event()

    def put(self, upload: Upload) -> StoredObject:
        self.entered.set()
        assert self.may_go_on.wait(SOON)
        if self.errors:
            raise self.errors.pop(0)
        self.contents.append(upload.path.read_text())
        return StoredObject(upload.path.stat().st_size, "0" * 64)

    def publish(self, _upload: Upload, stored: StoredObject) -> None:
        if self.publish_errors:
            raise self.publish_errors.pop(0)
        self.published.append(stored.size_bytes)


MakeUploader = Callable[[Store], Uploader]


@pytest.fixture
def make_uploader(tmp_path: Path) -> MakeUploader:
    def make(store: Store) -> Uploader:
        return Uploader(
            store.put, store.publish, staging=tmp_path / "staging", on_lost=pytest.fail, retry_seconds=0.01
        )

    return make


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    path.write_text("step 1")
    return path


def saved(step: int) -> CheckpointSaved:
    return CheckpointSaved(name="last.ckpt", step=step, epoch=0, val_loss=None)


def replace(path: Path, text: str) -> None:
    """As the trainer does it: the new file is whole before it takes the name."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_is_stored_as_it_was_when_it_was_handed_over(
    make_uploader: MakeUploader, checkpoint: Path
) -> None:
    store = Store()
    store.may_go_on.clear()
    with make_uploader(store) as uploader:
        uploader.add(saved(1), checkpoint)
        replace(checkpoint, "step 2")
        store.may_go_on.set()
        uploader.finish(SOON)

    assert store.contents == ["step 1"]
    assert uploader.published == {"last.ckpt"}


def test_versions_that_wait_are_dropped_for_the_newest(make_uploader: MakeUploader, checkpoint: Path) -> None:
    store = Store()
    store.may_go_on.clear()
    with make_uploader(store) as uploader:
        uploader.add(saved(1), checkpoint)
        assert store.entered.wait(SOON)
        for step in (2, 3, 4):
            replace(checkpoint, f"step {step}")
            uploader.add(saved(step), checkpoint)
        store.may_go_on.set()
        uploader.finish(SOON)

    assert store.contents == ["step 1", "step 4"]


def test_a_file_that_is_replaced_while_it_waits_keeps_its_turn(
    make_uploader: MakeUploader, checkpoint: Path, tmp_path: Path
) -> None:
    state = tmp_path / "resume.safetensors"
    store = Store()
    store.may_go_on.clear()
    with make_uploader(store) as uploader:
        uploader.add(saved(1), checkpoint)
        assert store.entered.wait(SOON)
        for step in (1, 2):
            replace(state, f"state {step}")
            uploader.add(CheckpointSaved(name="resume.safetensors", step=step, epoch=0, val_loss=None), state)
            replace(checkpoint, f"step {step + 1}")
            uploader.add(saved(step + 1), checkpoint)
        store.may_go_on.set()
        uploader.finish(SOON)

    assert store.contents == ["step 1", "state 2", "step 3"]


def test_nothing_stays_staged(make_uploader: MakeUploader, checkpoint: Path, tmp_path: Path) -> None:
    with make_uploader(Store(StorageUnavailable("away"))) as uploader:
        uploader.add(saved(1), checkpoint)
        uploader.finish(SOON)

    assert list((tmp_path / "staging").iterdir()) == []


def test_a_storage_that_comes_back_has_lost_nothing(make_uploader: MakeUploader, checkpoint: Path) -> None:
    store = Store(*(StorageUnavailable("away") for _ in range(3)))
    with make_uploader(store) as uploader:
        uploader.add(saved(1), checkpoint)
        uploader.finish(SOON)

    assert store.contents == ["step 1"]


def test_a_storage_that_stays_away_ends_the_patience(make_uploader: MakeUploader, checkpoint: Path) -> None:
    store = Store(*(StorageUnavailable("away") for _ in range(10_000)))
    with make_uploader(store) as uploader:
        uploader.add(saved(1), checkpoint)
        with pytest.raises(StorageUnavailable):
            uploader.finish(0.1)

    assert uploader.published == set()


def test_bytes_that_are_stored_are_not_stored_again_when_the_database_is_away(
    make_uploader: MakeUploader, checkpoint: Path
) -> None:
    away = OperationalError("INSERT", {}, ConnectionError("the database is away"))
    store = Store(publish_errors=(away, away))
    with make_uploader(store) as uploader:
        uploader.add(saved(1), checkpoint)
        uploader.finish(SOON)

    assert store.contents == ["step 1"]
    assert store.published == [len("step 1")]


def test_a_mistake_of_ours_is_raised_at_the_end(make_uploader: MakeUploader, checkpoint: Path) -> None:
    with make_uploader(Store(KeyError("sha256"))) as uploader:
        uploader.add(saved(1), checkpoint)
        with pytest.raises(KeyError):
            uploader.finish(SOON)


def test_a_fenced_artifact_is_told_at_once_and_raised_at_the_end(checkpoint: Path, tmp_path: Path) -> None:
    lost = threading.Event()
    store = Store(LeaseLost("fenced"))
    with Uploader(store.put, store.publish, staging=tmp_path / "staging", on_lost=lost.set) as uploader:
        uploader.add(saved(1), checkpoint)
        assert lost.wait(SOON)
        with pytest.raises(LeaseLost):
            uploader.finish(SOON)
