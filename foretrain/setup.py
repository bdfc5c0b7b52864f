"""From the environment to settings and connections, for the processes that are started here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from core.settings import load_settings
from core.storage import ObjectStorage, open_storage
from foretrain.logs import configure_logging
from foretrain.refusals import Refusal

if TYPE_CHECKING:
    from core.settings import Settings


def set_up() -> Settings:
    """Settings from FORETRAIN_* variables and secret files, and logging as they say. Raises Refusal."""
    try:
        settings = load_settings()
    except ValidationError as error:
        raise Refusal(_explain(error)) from error
    configure_logging(settings.log_format)
    return settings


def open_object_storage(settings: Settings) -> ObjectStorage:
    """The object storage with the credentials of the settings, or else those of the environment."""
    key_id, key = settings.storage_access_key_id, settings.storage_secret_access_key
    return open_storage(
        settings.storage_url,
        public_url=settings.storage_public_url,
        access_key_id=None if key_id is None else key_id.get_secret_value(),
        secret_access_key=None if key is None else key.get_secret_value(),
    )


def _explain(error: ValidationError) -> str:
    # Never the value: it may be a secret.
    problems = [
        f"{'FORETRAIN_' + str(problem['loc'][0]).upper() if problem['loc'] else 'settings'}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    ]
    return "; ".join(problems)
