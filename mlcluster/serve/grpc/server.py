"""A replica's own gRPC socket, beside its HTTP one, in the same event loop."""

from __future__ import annotations

import grpc

from mlcluster.errors import ClusterError
from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.grpc.service import InferenceService
from mlcluster.serve.many_models import OtherApps, no_others

_MORE_BYTES = 64 * 1024
"""For what a message has beside its tensors."""


class GrpcServer:
    """Serves the answers of `careful`, and of `others`, at a port of `host` (a free one for 0), in the loop that runs.

    With a `front_secret` it answers only the front door that bears it, which writes x-request-id and traceparent.

    Raises:
        ClusterError: the port cannot be opened.
    """

    def __init__(
        self,
        careful: CarefulAnswers,
        others: OtherApps | None = None,
        *,
        host: str,
        port: int = 0,
        front_secret: str | None = None,
    ) -> None:
        asked, limits = Address(host=host, port=port), careful.limits
        options = [
            ("grpc.max_receive_message_length", limits.max_body_bytes + _MORE_BYTES),
            # Else another process of the same user could take a part of the calls.
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * limits.max_in_flight)
        others = others or no_others(*careful.identity.values())
        service = InferenceService(careful, others, front_secret=front_secret)
        self._server.add_generic_rpc_handlers((service.handler(),))
        try:
            self.address = Address(host=host, port=self._server.add_insecure_port(str(asked)))
        except RuntimeError as error:
            raise ClusterError(f"grpc = {asked} cannot be opened ({error}); choose another port.") from error

    async def start(self) -> None:
        """Answers from now on; calls that came before have waited."""
        await self._server.start()

    async def close(self, *, grace_seconds: float) -> None:
        """Takes no new call, and ends when each has been answered, or at last after `grace_seconds`."""
        await self._server.stop(grace_seconds)
