"""The images: GTSRB in its official layout or synthetic, decoded once, cut by track. Imports no torch by itself."""

from lib.data.audit import assert_fair, count_duplicates
from lib.data.images import IMAGE_SIZE, resize_image
from lib.data.loading import check_num_images, load_data
from lib.data.sets import DATASETS, Data, Split

__all__ = [
    "DATASETS",
    "IMAGE_SIZE",
    "Data",
    "Split",
    "assert_fair",
    "check_num_images",
    "count_duplicates",
    "load_data",
    "resize_image",
]
