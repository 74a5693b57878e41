"""Columns of encoded images: PNG or JPEG in, pixels out.

In: bytes from outside. Out: pixels (n, height * width * channels), row by row, channels last, as uint8 and as the
numbers that a model takes; or for each row the reason why there are none. Not here: other formats than PNG and JPEG.
"""

from mlcluster.data.images.decode import Decoded, decode_column, image_problems, opencv, to_arrow
from mlcluster.data.images.header import PNG, ImageHeader, read_header
from mlcluster.data.images.marking import is_image_field, mark_images
from mlcluster.data.images.partial import ImagePartial, header_partial, image_partial, merged_images
from mlcluster.data.images.pixels import ImagePixels

__all__ = [
    "PNG",
    "Decoded",
    "ImageHeader",
    "ImagePartial",
    "ImagePixels",
    "decode_column",
    "header_partial",
    "image_partial",
    "image_problems",
    "is_image_field",
    "mark_images",
    "merged_images",
    "opencv",
    "read_header",
    "to_arrow",
]
