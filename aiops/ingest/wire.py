"""Protobuf messages of Prometheus remote write 1.0 and gRPC's Status, built at run time (no generated code).

``OuterRequest`` is ``WriteRequest`` with its series left as bytes: the wire format of a sub-message and of
``bytes`` is the same.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

_SCALARS = {
    "bytes": Field.TYPE_BYTES,
    "string": Field.TYPE_STRING,
    "double": Field.TYPE_DOUBLE,
    "int64": Field.TYPE_INT64,
    "int32": Field.TYPE_INT32,
}

_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "OuterRequest": [("timeseries", 1, "*bytes"), ("metadata", 3, "*bytes")],
    "Label": [("name", 1, "string"), ("value", 2, "string")],
    "Sample": [("value", 1, "double"), ("timestamp", 2, "int64")],
    "TimeSeries": [
        ("labels", 1, "*Label"),
        ("samples", 2, "*Sample"),
        ("exemplars", 3, "*bytes"),
        ("histograms", 4, "*bytes"),
    ],
    "Metadata": [
        ("type", 1, "int32"),
        ("metric_family_name", 2, "string"),
        ("help", 4, "string"),
        ("unit", 5, "string"),
    ],
    "Status": [("code", 1, "int32"), ("message", 2, "string")],
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="aiops/wire.proto", package="aiops.wire", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = Field.LABEL_REPEATED if kind.startswith("*") else Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            word = kind.lstrip("*")
            if word in _SCALARS:
                added.type = _SCALARS[word]
            else:
                added.type = Field.TYPE_MESSAGE
                added.type_name = f".aiops.wire.{word}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"aiops.wire.{name}")) for name in _MESSAGES
    }


_classes = _build()
OuterRequest: Any = _classes["OuterRequest"]
TimeSeries: Any = _classes["TimeSeries"]
Metadata: Any = _classes["Metadata"]
Status: Any = _classes["Status"]
