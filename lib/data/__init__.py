"""The images: GTSRB in its official layout or synthetic, decoded once, cut by track. Imports no torch by itself."""

from lib.data.audit import Audit, assert_fair, audit_splits
from lib.data.dataset import Data, Split
from lib.data.images import IMAGE_SIZE, resize_image
from lib.data.loading import check_num_images, load_data, num_images_for
