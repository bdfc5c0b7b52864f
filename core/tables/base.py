"""What every table shares. Times are aware UTC; JSON columns hold what the pydantic schemas dump."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Enum, MetaData, String
from sqlalchemy.orm import DeclarativeBase

from core.database import JsonColumn, UtcDateTime
from core.ids import ID_LENGTH

Json = dict[str, Any]
Id = String(ID_LENGTH)
SHA256 = String(64)


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), Json: JsonColumn, int: BigInteger()}  # noqa: RUF012


def closed(values: type[StrEnum], name: str) -> Enum:
    """A text column that a check constraint holds to the enum's values."""
    return Enum(
        values,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=20,
        values_callable=lambda kind: [member.value for member in kind],
    )
