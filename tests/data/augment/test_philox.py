from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlcluster.data.augment import normals, philox_4x32, uniforms

MOST = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MOST,) * 4, (MOST,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_words_are_those_of_the_authors_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    """From kat_vectors of Random123, the authors' own library."""
    found = philox_4x32(tuple(np.array([word]) for word in counter), key)  # type: ignore[arg-type]
    assert tuple(int(word[0]) for word in found) == words


def test_tensors_give_the_bits_of_arrays() -> None:
    rng = np.random.default_rng(0)
    counter = tuple(rng.integers(0, 2**32, 1000) for _ in range(4))
    arrays = philox_4x32(counter, (7, 9))  # type: ignore[arg-type]
    tensors = philox_4x32(tuple(torch.from_numpy(word) for word in counter), (7, 9))  # type: ignore[arg-type]
    assert all(np.array_equal(one, other.numpy()) for one, other in zip(arrays, tensors, strict=True))


@given(rows=st.lists(st.integers(0, 2**40), min_size=1, max_size=30), width=st.integers(1, 9))
def test_a_row_draws_the_same_alone_as_among_others(rows: list[int], width: int) -> None:
    together = uniforms(np.array(rows), width=width, seed=5, epoch=2, purpose=1)
    alone = [uniforms(np.array([row]), width=width, seed=5, epoch=2, purpose=1)[0] for row in rows]
    assert np.array_equal(together, np.array(alone))


@pytest.mark.parametrize("changed", [{"seed": 2}, {"seed": 1 + 2**32}, {"epoch": 1}, {"purpose": 4}])
def test_another_seed_epoch_or_purpose_draws_other_numbers(changed: dict[str, int]) -> None:
    asked = {"seed": 1, "epoch": 0, "purpose": 3}
    rows = np.arange(200)
    first, other = (uniforms(rows, width=3, **each) for each in (asked, {**asked, **changed}))
    assert not np.isin(first, other).any()


def test_draws_are_uniform_and_normal_and_neighbours_are_independent() -> None:
    drawn = uniforms(np.arange(20_000), width=2, seed=0, epoch=0, purpose=1)
    assert 0 < drawn.min() < drawn.max() < 1
    assert stats.kstest(drawn[:, 0], "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.03
    assert stats.kstest(normals(np.arange(20_000), width=1, seed=0, epoch=0, purpose=1)[:, 0], "norm").pvalue > 0.001
