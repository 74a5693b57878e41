"""The messages of the Open Inference Protocol over gRPC, made by protobuf from their description.

The description (`protocol/open_inference.binpb`, from the `.proto` beside it) lives in a pool of its own: the generated
modules of a client in the same process, such as Triton's, have messages of the same names.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"


def _message_classes() -> dict[str, Any]:
    described = descriptor_pb2.FileDescriptorSet.FromString(
        (files("mlcluster.serve") / "protocol" / "open_inference.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    found = message_factory.GetMessages(described.file, pool=pool)
    return {name.removeprefix("inference."): message for name, message in found.items()}


MESSAGES = _message_classes()
"""By name, without the package's."""
