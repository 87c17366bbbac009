"""The images: GTSRB in its official layout or synthetic, decoded once, cut by track. Imports no torch by itself."""

from lib.data.audit import Audit, assert_fair, audit_splits
from lib.data.images import IMAGE_SIZE, resize_image
from lib.data.loading import check_num_images, load_data
from lib.data.sets import DATASETS, Data, Split

__all__ = [
    "DATASETS",
    "IMAGE_SIZE",
    "Audit",
    "Data",
    "Split",
    "assert_fair",
    "audit_splits",
    "check_num_images",
    "load_data",
    "resize_image",
]
