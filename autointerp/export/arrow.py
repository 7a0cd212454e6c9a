"""The columns of exported rows in Parquet; the types of `schema.ExportedRow` in Arrow's words."""

from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autointerp.export.schema import EXPORT_VERSION, Activation, ExportedRow, as_float32


@cache
def arrow_schema() -> pa.Schema:
    """One column per field of a row; nested lists and structs as they stand in it."""
    fields = [_field(name, info) for name, info in ExportedRow.model_fields.items()]
    return pa.schema(fields, metadata={"autointerp.export_version": str(EXPORT_VERSION)})


def _field(name: str, info: FieldInfo) -> pa.Field:
    single = any(getattr(m, "func", None) is as_float32 for m in info.metadata)
    return pa.field(name, pa.float32() if single else _type(info.annotation))


def _type(annotation: Any) -> pa.DataType:
    """The Arrow type of an annotation; `None` in a union says nothing, for all may be null."""
    if annotation == Activation:
        return pa.float32()
    origin = get_origin(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if origin in (Union, UnionType):
        (inner,) = (part for part in get_args(annotation) if part is not NoneType)
        return _type(inner)
    if origin is Literal:
        return pa.int64()
    if origin is list:
        return pa.list_(_type(get_args(annotation)[0]))
    if issubclass(annotation, BaseModel):
        return pa.struct([_field(name, info) for name, info in annotation.model_fields.items()])
    if issubclass(annotation, bool):
        return pa.bool_()
    if issubclass(annotation, str):
        return pa.string()
    return pa.int64() if issubclass(annotation, int) else pa.float64()
