"""Protobuf messages of Prometheus remote write 1.0 and 2.0 and gRPC's Status, built at run time (no generated code).

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
    "uint32": Field.TYPE_UINT32,
}

_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "OuterRequest": [("timeseries", 1, "*bytes"), ("metadata", 3, "*bytes")],
    "Label": [("name", 1, "string"), ("value", 2, "string")],
    "Sample": [("value", 1, "double"), ("timestamp", 2, "int64")],
    "TimeSeries": [
        ("labels", 1, "*Label"),
        ("samples", 2, "*Sample"),
        ("exemplars", 3, "*Exemplar"),
        ("histograms", 4, "*bytes"),
    ],
    "Exemplar": [("labels", 1, "*Label"), ("value", 2, "double"), ("timestamp", 3, "int64")],
    "HistogramTime": [("timestamp", 15, "int64")],
    "Sample2": [("value", 1, "double"), ("timestamp", 2, "int64"), ("start_timestamp", 3, "int64")],
    "Request2": [("symbols", 4, "*string"), ("timeseries", 5, "*bytes")],
    "TimeSeries2": [
        ("labels_refs", 1, "*uint32"),
        ("samples", 2, "*Sample2"),
        ("histograms", 3, "*bytes"),
        ("exemplars", 4, "*Exemplar2"),
        ("metadata", 5, "Metadata2"),
        ("created_timestamp", 6, "int64"),
    ],
    "Exemplar2": [("labels_refs", 1, "*uint32"), ("value", 2, "double"), ("timestamp", 3, "int64")],
    "Metadata2": [("type", 1, "int32"), ("help_ref", 3, "uint32"), ("unit_ref", 4, "uint32")],
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
HistogramTime: Any = _classes["HistogramTime"]
Request2: Any = _classes["Request2"]
TimeSeries2: Any = _classes["TimeSeries2"]
Status: Any = _classes["Status"]
