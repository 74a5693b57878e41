"""Images of an epoch: what becomes of them hangs on the seed, the epoch and the row, and each map does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data import ImageShape
from mlcluster.data.augment import EpochAugmentation, ImagePlace
from mlcluster.data.augment.images import augmented_images
from mlcluster.errors import DataError
from mlcluster.spec import AugmentSpec, ImageAugmentSpec

EVERYTHING = ImageAugmentSpec(crop=2, flip=True, rotate=30, translate=0.1, scale=0.2, shear=10, cutout=0.3)
SHAPE = ImageShape(height=9, width=14, channels=3)


def some_images(count: int, height: int = 9, width: int = 14, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(count, channels, height, width)).astype(np.float32))


def made(images: torch.Tensor, spec: ImageAugmentSpec, *, seed: int = 1, epoch: int = 0) -> torch.Tensor:
    return augmented_images(images, np.arange(len(images)), spec, seed=seed, epoch=epoch)


def spot(count: int, height: int, width: int, *, down: float, across: float) -> torch.Tensor:
    """A soft spot around a place, in pixels from the middle."""
    rows = np.arange(height)[:, np.newaxis] - (height - 1) / 2 - down
    columns = np.arange(width) - (width - 1) / 2 - across
    return torch.from_numpy(np.exp(-(rows**2 + columns**2) / 8)).float().expand(count, 1, height, width)


def middles(images: torch.Tensor) -> np.ndarray:
    """Where the light is, (n, 2): down and across from the middle, in pixels."""
    light = images[:, 0].numpy().astype(np.float64)
    light /= light.sum(axis=(1, 2), keepdims=True)
    height, width = light.shape[1:]
    down = (light.sum(axis=2) * (np.arange(height) - (height - 1) / 2)).sum(axis=1)
    return np.stack([down, (light.sum(axis=1) * (np.arange(width) - (width - 1) / 2)).sum(axis=1)], axis=1)


@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=40), epoch=st.integers(0, 5))
def test_an_image_is_the_same_in_any_batch_and_in_any_order(rows: list[int], epoch: int) -> None:
    images = some_images(40)
    whole = made(images, EVERYTHING, epoch=epoch)
    part = augmented_images(images[rows], np.array(rows), EVERYTHING, seed=1, epoch=epoch)
    assert part.numpy().tobytes() == whole[rows].numpy().tobytes()


def test_threads_change_no_bit() -> None:
    images, before = some_images(300), torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(made(images, EVERYTHING).numpy().tobytes())
    torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_seed_and_an_epoch_say_what_becomes_of_it() -> None:
    images = some_images(20)
    seen = [
        made(images, EVERYTHING, seed=seed, epoch=epoch).numpy() for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1))
    ]
    assert np.array_equal(seen[0], seen[1])
    for other in seen[2:]:
        assert (np.abs(seen[0] - other).max(axis=(1, 2, 3)) > 0).all()


def test_what_is_left_out_is_not_done() -> None:
    images = some_images(10)
    assert torch.equal(made(images, ImageAugmentSpec()), images)
    assert not ImageAugmentSpec().is_on
    assert all(
        ImageAugmentSpec(**{name: 1 if name in ("crop", "flip") else 0.1}).is_on for name in EVERYTHING.model_dump()
    )


def test_a_crop_moves_by_whole_pixels_and_each_of_them_happens() -> None:
    images = some_images(600, height=6, width=8, channels=1)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    cropped = made(images, ImageAugmentSpec(crop=1))
    shifts = [(down, across) for down in range(3) for across in range(3)]
    near = torch.stack([(cropped - padded[:, :, d : d + 6, a : a + 8]).abs().amax(dim=(1, 2, 3)) for d, a in shifts])
    assert float(near.min(dim=0).values.max()) < 1e-4
    counts = np.bincount(near.argmin(dim=0).numpy(), minlength=9)
    assert counts.min() > 600 / 9 / 2


def test_half_of_the_images_are_mirrored_and_the_others_are_as_they_were() -> None:
    images = some_images(400)
    flipped = made(images, ImageAugmentSpec(flip=True))
    is_mirrored = (flipped - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    is_same = (flipped - images).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert bool((is_mirrored ^ is_same).all())
    assert 150 < int(is_mirrored.sum()) < 250


def test_a_turn_keeps_the_distance_from_the_middle_in_an_oblong_image_too() -> None:
    places = middles(made(spot(200, 41, 61, down=0, across=10), ImageAugmentSpec(rotate=45)))
    assert np.hypot(*places.T) == pytest.approx(10, abs=0.1)
    angles = np.rad2deg(np.arctan2(places[:, 0], places[:, 1]))
    assert -45.5 < angles.min() < -35
    assert 35 < angles.max() < 45.5


def test_a_move_a_size_and_a_shear_are_within_what_was_asked() -> None:
    moved = middles(made(spot(200, 41, 61, down=0, across=0), ImageAugmentSpec(translate=0.1)))
    assert np.abs(moved).max(axis=0) == pytest.approx([4.1, 6.1], rel=0.1)
    sized = middles(made(spot(200, 41, 61, down=0, across=10), ImageAugmentSpec(scale=0.3)))[:, 1]
    assert (sized.min(), sized.max()) == pytest.approx((7, 13), abs=0.3)
    sheared = middles(made(spot(200, 41, 61, down=10, across=0), ImageAugmentSpec(shear=30)))
    assert sheared[:, 0] == pytest.approx(10, abs=0.1)
    assert np.abs(sheared[:, 1]).max() == pytest.approx(10 * np.tan(np.deg2rad(30)), rel=0.1)


def test_what_comes_in_at_an_edge_has_its_colour() -> None:
    flat = torch.full((50, 1, 8, 8), -0.7)
    spec = EVERYTHING.model_copy(update={"cutout": 0.0})
    assert float((made(flat, spec) + 0.7).abs().max()) < 1e-5


def test_cutout_covers_a_square_that_may_reach_over_an_edge() -> None:
    covered = (made(torch.ones(500, 2, 10, 20), ImageAugmentSpec(cutout=0.4)) == 0).numpy()
    assert (covered[:, 0] == covered[:, 1]).all()
    sizes = covered[:, 0].sum(axis=(1, 2))
    assert (sizes.min(), sizes.max()) == (4, 16)
    down, across = covered[:, 0].any(axis=2).sum(axis=1), covered[:, 0].any(axis=1).sum(axis=1)
    assert (down * across == sizes).all()
    assert covered[:, 0].any(axis=0).all()


def test_numbers_beside_an_image_stay_and_the_image_is_what_it_is_alone() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(30, SHAPE.num_values)).astype(np.float32)
    features = np.concatenate([rng.normal(size=(30, 2)).astype(np.float32), pixels], axis=1)
    spec, nothing = AugmentSpec(images=EVERYTHING), np.zeros(0, dtype=np.intp)
    place = ImagePlace(start=2, shape=SHAPE)
    beside = EpochAugmentation.of(spec, features, nothing, (place,))
    alone = EpochAugmentation.of(spec, pixels, nothing, (ImagePlace(start=0, shape=SHAPE),))
    assert beside is not None
    assert alone is not None
    rows = np.array([7, 3, 3, 29])
    made_beside, mixture = beside.made(features, rows, seed=4, epoch=2)
    assert mixture is None
    assert np.array_equal(made_beside[:, :2], features[rows, :2])
    assert np.array_equal(made_beside[:, 2:], alone.made(pixels, rows, seed=4, epoch=2)[0])
    assert beside.draws_per_row == SHAPE.num_values // 6
    images = torch.from_numpy(pixels[rows]).view(-1, 9, 14, 3).permute(0, 3, 1, 2)
    expected = augmented_images(images, rows, EVERYTHING, seed=4, epoch=2).permute(0, 2, 3, 1).reshape(4, -1)
    assert np.array_equal(made_beside[:, 2:], expected.numpy())


@pytest.mark.parametrize("asked", [{"crop": -1}, {"rotate": 200}, {"scale": 0.6}, {"cutout": 1}, {"spin": 3}])
def test_what_cannot_be_asked_for_is_refused(asked: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(asked))):
        AugmentSpec.model_validate({"images": asked})


def test_without_an_image_there_is_nothing_to_move() -> None:
    from mlcluster.data.augment import check_images

    spec = AugmentSpec(images=ImageAugmentSpec(crop=2))
    check_images(spec, ["number", "image"])
    with pytest.raises(DataError, match=r"data.augment.images = {'crop': 2} moves images, and no feature is one"):
        check_images(spec, ["number"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")
def test_on_a_gpu_images_become_the_same_to_rounding() -> None:
    images = some_images(50)
    there = made(images.cuda(), EVERYTHING).cpu()
    assert float((there - made(images, EVERYTHING)).abs().max()) < 1e-3
