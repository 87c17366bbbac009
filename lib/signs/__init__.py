"""The 43 German signs of GTSRB: names, shapes, mirror images and vector artwork.

The drawings are this project's own (`artwork/NN.svg`). The renderer that turns them into photograph-like
images needs torch and is imported by itself: `lib.signs.renderer`.
"""

from lib.signs.artwork import artwork_svg, render_artwork
from lib.signs.catalogue import CLASS_NAMES, NUM_CLASSES, SIGNS, Sign, mirror_map, sign_named
