"""Protobuf message classes built at run time from a table, so that no generated code is kept.

A field may be declared as ``bytes`` where the schema has a sub-message: both are the same on the wire, and bytes
can be kept, compared and sliced without an object for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

Fields = Sequence[tuple[str, int, str]]
"""(name, number, type); a type is a scalar or another message of the table, ``*`` before it makes it repeated and
``?`` gives a scalar presence."""

_SCALARS = {
    "bool": Field.TYPE_BOOL,
    "bytes": Field.TYPE_BYTES,
    "double": Field.TYPE_DOUBLE,
    "fixed64": Field.TYPE_FIXED64,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "sint32": Field.TYPE_SINT32,
    "sint64": Field.TYPE_SINT64,
    "string": Field.TYPE_STRING,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
}


def message_classes(package: str, messages: Mapping[str, Fields]) -> dict[str, Any]:
    """A class for each message of the table, by name; ``package`` keeps the names of two tables apart."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            word = kind.lstrip("*?")
            added = message.field.add(
                name=field, number=number, label=Field.LABEL_REPEATED if kind[0] == "*" else Field.LABEL_OPTIONAL
            )
            if word in _SCALARS:
                added.type = _SCALARS[word]
            else:
                added.type = Field.TYPE_MESSAGE
                added.type_name = f".{package}.{word}"
            if kind[0] == "?":
                added.proto3_optional = True
                added.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}
