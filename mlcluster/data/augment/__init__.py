"""More variety in the train split, and where it is thin.

In: train rows, a seed, an epoch. Out: other rows, the same for the same (seed, epoch, row number), whatever the batch,
the order or the worker; and the cells that too few rows stand in. Not here: validation and test, which stay as is.
"""

from mlcluster.data.augment.coverage import ThinCell, covered_columns, thin_cells, thin_findings
from mlcluster.data.augment.epochs import VALUES_A_DRAW, EpochAugmentation, ImagePlace
from mlcluster.data.augment.groups import (
    check_group,
    check_images,
    extra_rows,
    group_rows,
    image_places,
    number_columns,
)
from mlcluster.data.augment.mixup import Mixture, draw_mixture
from mlcluster.data.augment.noise import with_noise
from mlcluster.data.augment.oversample import ExtraRows, copies, interpolations, num_extra_rows
from mlcluster.data.augment.philox import normals, philox_4x32, uniforms

__all__ = [
    "VALUES_A_DRAW",
    "EpochAugmentation",
    "ExtraRows",
    "ImagePlace",
    "Mixture",
    "ThinCell",
    "check_group",
    "check_images",
    "copies",
    "covered_columns",
    "draw_mixture",
    "extra_rows",
    "group_rows",
    "image_places",
    "interpolations",
    "normals",
    "num_extra_rows",
    "number_columns",
    "philox_4x32",
    "thin_cells",
    "thin_findings",
    "uniforms",
    "with_noise",
]
