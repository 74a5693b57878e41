"""Crop, flip, affine maps and cutout of a batch of images as one resampling, on the device where the images are.

Cropping, flipping, turning, moving, stretching and shearing are one map of the plane each, and so together: an image is
interpolated once, however many of them it gets. What is drawn for an image depends on (seed, epoch, row) alone, as for
noise; what it becomes, too: the map is worked out pixel by pixel, since nothing promises that a batched matrix product
(`affine_grid`) rounds alike in batches of any size. Shapes: n images of c channels, height h and width w.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from mlcluster.data.augment.philox import uniforms
from mlcluster.data.schema import ImageShape
from mlcluster.spec import ImageAugmentSpec

_PURPOSE = 5
_NUM_DRAWS = 12
"""Crop, translation, cutout (two each), flip, turn, scale, shear, and room for more without other draws moving."""

Draw = Callable[[int], npt.NDArray[np.float64]]


def augmented_images(
    images: torch.Tensor, rows: npt.NDArray[np.int64], spec: ImageAugmentSpec, *, seed: int, epoch: int
) -> torch.Tensor:
    """`images` (n, c, h, w), standardised, as they are in that epoch; `rows` (n,) are their numbers.

    An image comes out the same whichever images are given with it, in whatever order.
    """
    drawn = uniforms(rows, width=_NUM_DRAWS, seed=seed, epoch=epoch, purpose=_PURPOSE)
    height, width = images.shape[2:]

    def even(place: int) -> npt.NDArray[np.float64]:
        """From -1 to 1, (n,)."""
        return 2 * drawn[:, place] - 1

    made = images
    if spec != ImageAugmentSpec(cutout=spec.cutout):
        matrices = torch.from_numpy(_maps(spec, even, height=height, width=width)).to(images)
        made = torch.nn.functional.grid_sample(
            images, _grid(matrices, height, width), mode="bilinear", padding_mode="border", align_corners=False
        )
    if spec.cutout:
        made = made * _kept(spec.cutout, torch.from_numpy(drawn[:, 10:12]).to(images), height, width)
    return made


def augmented_rows(
    pixels: npt.NDArray[np.float32],
    shape: ImageShape,
    rows: npt.NDArray[np.int64],
    spec: ImageAugmentSpec,
    *,
    seed: int,
    epoch: int,
) -> npt.NDArray[np.float32]:
    """The same for images as rows of a matrix, (n, h * w * c), in and out."""
    flat = torch.from_numpy(np.ascontiguousarray(pixels))
    images = flat.view(-1, shape.height, shape.width, shape.channels).permute(0, 3, 1, 2)
    made = augmented_images(images, rows, spec, seed=seed, epoch=epoch)
    found: npt.NDArray[np.float32] = made.permute(0, 2, 3, 1).reshape(flat.shape).numpy()
    return found


def _maps(spec: ImageAugmentSpec, even: Draw, *, height: int, width: int) -> npt.NDArray[np.float64]:
    """From places in the new image to places in the old, (n, 2, 3); both run from -1 to 1 between an image's edges."""
    # Whole pixels, as cutting out of a padded image gives: without another map, no value is interpolated.
    crop = [np.rint((spec.crop + 0.49) * even(place)) * 2 / side for place, side in ((0, width), (1, height))]
    mirror = np.where(even(4) < 0, -1.0, 1.0) if spec.flip else 1.0
    turn, shear = np.deg2rad(spec.rotate) * even(5), np.tan(np.deg2rad(spec.shear) * even(7))
    size = 1 + spec.scale * even(6)
    cosine, sine = np.cos(turn) / size, np.sin(turn) / size
    # Angles are those of square pixels, whatever the sides of the image.
    aspect = height / width
    across, down = spec.translate * 2 * even(2), spec.translate * 2 * even(3)
    first = (mirror * cosine, mirror * (shear * cosine - sine) * aspect, mirror * across + crop[0])
    second = (sine / aspect, shear * sine + cosine, down + crop[1])
    maps: npt.NDArray[np.float64] = np.stack([np.stack(first, axis=1), np.stack(second, axis=1)], axis=1)
    return maps


def _grid(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Where each pixel of the new images comes from, (n, h, w, 2)."""
    down, across = _places(height, maps).view(1, -1, 1), _places(width, maps).view(1, 1, -1)
    parts = [
        maps[:, axis, 0].view(-1, 1, 1) * across
        + maps[:, axis, 1].view(-1, 1, 1) * down
        + maps[:, axis, 2].view(-1, 1, 1)
        for axis in range(2)
    ]
    return torch.stack(parts, dim=-1)


def _kept(share: float, centres: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """1 outside of a square whose side is that share of the shorter one, else 0, (n, 1, h, w).

    Its centre, which `centres` (n, 2) in 0 to 1 gives, may lie anywhere: near an edge, part of it is outside.
    """
    side = max(1, math.floor(share * min(height, width) + 0.5))
    down, across = (_covered(centres[:, axis], length, side) for axis, length in ((0, height), (1, width)))
    return (~(down.unsqueeze(2) & across.unsqueeze(1))).unsqueeze(1).to(centres.dtype)


def _covered(centres: torch.Tensor, length: int, side: int) -> torch.Tensor:
    """Which pixels along one side of the image lie in a stretch of `side` around `centres` (n,), (n, length)."""
    first = torch.floor(centres * length).unsqueeze(1) - side // 2
    places = torch.arange(length, device=centres.device)
    return (places >= first) & (places < first + side)


def _places(length: int, like: torch.Tensor) -> torch.Tensor:
    """The middles of pixels, (length,)."""
    return (2 * torch.arange(length, device=like.device, dtype=like.dtype) + 1) / length - 1
