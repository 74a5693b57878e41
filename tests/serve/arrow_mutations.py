"""Mutated Arrow bodies, read in a process that may take little memory: `python arrow_mutations.py SEED COUNT`.

A crash of a library in C ends this process, and memory without bound raises MemoryError or ends it too. Prints how many
bodies were answered with what.
"""

from __future__ import annotations

import collections
import resource
import struct
import sys
from pathlib import Path

import numpy as np

MORE_BYTES = 768 * 2**20


def mutated(body: bytes, rng: np.random.Generator) -> bytes:
    """The body with a few bytes, or numbers of 32 or 64 bits, that are others; cut, doubled or spliced at times."""
    data = bytearray(body)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data)))
        kind = int(rng.integers(0, 8))
        if kind <= 2:
            data[at] = int(rng.integers(0, 256))
        elif kind <= 4:
            number = int(rng.choice([0, 1, -1, -2, 7, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1]))
            at = at // 8 * 8
            data[at : at + 8] = struct.pack("<q", number)
        elif kind == 5:
            at = at // 4 * 4
            data[at : at + 4] = struct.pack("<i", int(rng.choice([0, 1, -1, 4, 2**16, 2**31 - 1, -(2**31)])))
        elif kind == 6:
            length = int(rng.integers(1, 64))
            data[at : at + length] = data[at - length : at] if at > length else b""
        else:
            del data[at : at + int(rng.integers(1, 16))]
        if not data:
            return b""
    return bytes(data)


def main(seed: int, count: int) -> None:
    from mlcluster.serve import NoRecords, Predictor, RequestLimits, build_app
    from tests.registry.bundles import sample_bundle, sample_table
    from tests.serve.app_client import AppClient
    from tests.serve.arrow_samples import file_of, stream_of
    from tests.serve.test_arrow import FILE, STREAM, send

    limits = RequestLimits(max_decoded_bytes=16 * 2**20)
    client = AppClient(build_app(Predictor(sample_bundle()), record=NoRecords(), limits=limits))
    table = sample_table(30, seed=1)
    coded = table.set_column(2, "city", table["city"].dictionary_encode())
    bodies = [
        (write(rows, compression=compression), kind)
        for rows in (table, coded)
        for compression in (None, "lz4", "zstd")
        for write, kind in ((stream_of, STREAM), (file_of, FILE))
    ]
    assert all(send(client, body, kind=kind).status_code == 200 for body, kind in bodies)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + MORE_BYTES,) * 2)
    rng = np.random.default_rng(seed)
    statuses: collections.Counter[int] = collections.Counter()
    for _ in range(count):
        body, kind = bodies[int(rng.integers(0, len(bodies)))]
        answer = send(client, mutated(body, rng), kind=kind)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
    client.close()
    sys.stdout.write(f"{dict(sorted(statuses.items()))}\n")


def _virtual_bytes() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
