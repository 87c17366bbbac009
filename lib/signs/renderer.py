"""From artwork to images like those of a camera in a moving car.

A *track* is what GTSRB calls one: frames of one physical sign while the car approaches it. The sign grows, its pose and
the light drift. The steps follow the optics: a lit scene in linear light (background, pole, neighbours, sign), seen
through a lens (defocus, motion, colour fringes), then the sensor (exposure, clipping, tone curve, noise).

Every track has a random stream of its own, and one thread renders it whole: results depend neither on the number of
threads nor on which other tracks are rendered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.signs.artwork import num_designs, render_artwork
from lib.signs.catalogue import NUM_CLASSES, SIGNS

IMAGE_SIZE = 32  # pixels of a finished image, as everywhere in the project
FRAMES_PER_TRACK = 30  # as in GTSRB

ARTWORK_SIZE = 96  # pixels of the rasterized drawing; about twice what a sign covers on the canvas
OVERSAMPLING = 2  # the canvas has this many pixels per image pixel
KERNEL_SIZE = 16  # canvas pixels of the blur kernel; even, so that an image pixel sees the canvas pixels around it
CANVAS_SIZE = OVERSAMPLING * (IMAGE_SIZE - 1) + KERNEL_SIZE
BACKGROUND_SIZE = 96
GAMMA = 2.2


@dataclass(frozen=True)
class Fitted:
    """The constants of the renderer.

    `lib.bench.drawn_signs` fits them on one half of the official training tracks: by how well a network that has seen
    nothing but drawn images reads them. So they look harder, and not alike: 5 %, 50 % and 95 % of the 39,209 official
    training images | of 5,000 drawn ones:

        larger side, pixels           29  44 105 |  29  50 117
        of a track's first frame      26  31  50 |  26  30  52
        of a track's last frame       50  96 174 |  52 112 227
        mean of the levels, 0..255    20  75 173 |  35  82 193
        deviation of the levels        8  40  82 |  14  36  68

    A pair without another meaning is the deviation between tracks and the change within a track.
    """

    # size and place
    first_px: tuple[float, float, float, float] = (25, 1.72, 0.914, 70)  # least + exp(normal: mean, deviation), most
    last_px: tuple[float, float, float] = (4.7, 0.42, 250)  # exp(normal: mean, deviation), most
    growth: float = 1.25  # last size over first size, at least
    margin: tuple[float, float] = (0.083, 5)  # around the sign: share of the larger side, and at least so many pixels
    filled: tuple[float, float, float] = (0.935, 0.0316, 0.0295)  # share inside the margin: mean, by track, by frame
    low_right: float = 0.0429  # by which signs sit low and right, in half images
    shift: tuple[float, float] = (0.0205, 0.0203)  # in half images
    # pose
    roll_deg: tuple[float, float] = (3.35, 1.2)
    yaw_deg: tuple[float, float] = (19.4, 12.3)
    pitch_deg: tuple[float, float] = (7.36, 4.0)
    shear: tuple[float, float] = (0.0271, 0.02)
    depth: float = 0.124  # half the sign's size over its distance, at most; more than real, against bent signs
    askew: tuple[float, float] = (0.0893, 2.5)  # share of the signs that are bent or askew, and how many times the roll
    # light
    exposure: tuple[float, float, float] = (-1, 0.877, 0.655)  # log of the light on the sign: mean, by track, change
    behind: tuple[float, float] = (0.748, 0.906)  # log of the light behind over that on the sign
    bright_sky: tuple[float, float] = (0.122, 1.8)  # share of the signs in front of it, and what it adds to `behind`
    gradient: tuple[float, float] = (0.0826, 0.244)  # slope of the light over the sign: of most, of 15 %
    shadows: float = 0.144  # share of the signs with shadows of leaves
    glare: float = 0.0232  # share of the signs with glare on the paint
    tint: tuple[float, float] = (0.109, 0.05)
    # paint
    fade: tuple[float, float, float] = (0.0805, 0.188, 0.323)  # deviation; share of old signs, and their fading
    paint_gamma: tuple[float, float] = (0.9, 1.37)  # deeper colours or paler
    mixing: float = 0.0222  # by which colours bleed into each other
    black_paint: float = 0.0324  # reflectance of black, at most
    dirt: float = 0.106  # log deviation of smooth noise on the sign, at most
    stains: float = 0.0854  # share of the signs
    # around the sign
    post: float = 0.762  # share of the signs, as all three
    plate: float = 0.348
    second_sign: float = 0.358
    # lens and sensor
    highlights: float = 0.941  # most light before the lens, of what burns out; more spills over edges
    focus_px: tuple[float, float] = (0.281, 0.638)  # deviation of the defocus, original pixels
    out_of_focus: tuple[float, float] = (0.116, 2.8)  # share of the tracks, and by how many times at most
    motion_px: float = 2.25  # deviation of the way that the image moves, original pixels
    fast: tuple[float, float] = (0.133, 3.0)  # share of the tracks, and by how many times they move more
    fringe_px: float = 0.608  # by which the colours part
    sharpening: float = 1.58  # at most
    chroma: tuple[float, float] = (0.648, 1.24)
    balance: float = 0.179  # log deviation of the white balance
    haze: float = 0.0727  # share of the tracks behind a wet or sunlit windscreen
    curve: tuple[float, float] = (1.87, 1.97)  # gamma of the camera
    black: tuple[float, float] = (0.015, 0.0442)  # level of black, of 1
    log_noise: tuple[float, float] = (-7.36, -4.43)  # log of the deviation of the noise, of 1


FITTED = Fitted()


@dataclass(frozen=True)
class TrackPlan:
    """One track to render."""

    class_id: int
    seed: int  # of the track's own random stream
    num_frames: int = FRAMES_PER_TRACK
    light: float | None = None  # rank of the light among the tracks of its class, 0..1: dark to bright; None = any
    fitted: Fitted = FITTED


class _Draw:
    """Random numbers of one track, and the constants that shape them."""

    def __init__(self, seed: int, fitted: Fitted) -> None:
        self.fitted = fitted
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def normal(self, deviation: float, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator) * deviation

    # A tensor of one number costs 10 µs an operation: these compute in float32 as the two above do, to the bit.
    def between(self, low: float, high: float) -> float:
        share = np.float32(torch.rand((), generator=self.generator).item())
        return float(share * np.float32(high - low) + np.float32(low))

    def gauss(self, deviation: float, mean: float = 0.0) -> float:
        number = np.float32(torch.randn((), generator=self.generator).item())
        return mean + float(number * np.float32(deviation))

    def chance(self, share: float) -> bool:
        return self.between(0, 1) < share

    def rarely(self, share: float, value: float, otherwise: float) -> float:
        return value if self.chance(share) else otherwise

    def drift(self, deviation: float, change: float, times: Tensor) -> Tensor:
        """A smooth path, float (frames,): a start of the given deviation, a trend and a swing of deviation `change`."""
        trend = self.gauss(change) * 2 * (times - 0.5)
        swing = self.gauss(change / 2) * torch.sin(self.between(2, 9) * times + self.between(0, 2 * math.pi))
        return self.gauss(deviation) + trend + swing

    def colour_drift(self, deviation: float, change: float, times: Tensor) -> Tensor:
        """Factors near 1 that drift apart, float (frames, 3, 1, 1)."""
        paths = [self.drift(deviation, change, times) for _ in range(3)]
        return torch.exp(torch.stack(paths, 1)).view(-1, 3, 1, 1)

    def noise(self, size: int, cells: int) -> Tensor:
        """Smooth noise, float (size, size), deviation about 1: `cells` random values per side, interpolated."""
        grid = self.normal(1.0, 1, 1, cells, cells)
        return F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=True)[0, 0]


# --------------------------------------------------------------------------------------------------- artwork


@cache
def _texture(class_id: int, design: int) -> Tensor:
    """float32 (4, ARTWORK_SIZE, ARTWORK_SIZE): linear light times alpha, and alpha."""
    pixels = torch.from_numpy(render_artwork(class_id, ARTWORK_SIZE, design)).float().permute(2, 0, 1) / 255
    alpha = pixels[3:]
    return torch.cat([pixels[:3].pow(GAMMA) * alpha, alpha])


def _any_texture(draw: _Draw, class_id: int) -> Tensor:
    """One of the designs in which the sign hangs at German roads."""
    return _texture(class_id, int(draw.between(0, num_designs(class_id))))


@cache
def _outline(class_id: int) -> Tensor:
    """float32 (points, 2): hull points of the drawing, x and y in -1..1, from which the sign's box follows."""
    rows, columns = np.nonzero(render_artwork(class_id, ARTWORK_SIZE)[:, :, 3] > 127)
    points = (np.stack([columns, rows], 1) + 0.5) / ARTWORK_SIZE * 2 - 1
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    return torch.from_numpy(points[np.unique((points @ directions).argmax(0))]).float()


# ---------------------------------------------------------------------------------------------------- geometry


def _frame_sizes(draw: _Draw, times: Tensor) -> Tensor:
    """float (frames,): the larger side in pixels. 1/size is linear in time, as for a car at constant speed."""
    least, mean, deviation, most = draw.fitted.first_px
    first = min(least + math.exp(draw.gauss(deviation, mean)), most)
    mean, deviation, most = draw.fitted.last_px
    last = min(max(math.exp(draw.gauss(deviation, mean)), first * draw.fitted.growth), most)
    return 1 / (1 / first + (1 / last - 1 / first) * times)


def _pose(draw: _Draw, times: Tensor) -> Tensor:
    """float (frames, 3, 3): homographies from the plane of the sign to the view, up to position and size."""
    degree = math.pi / 180
    wide = draw.rarely(*draw.fitted.askew, 1.0)
    roll = draw.drift(draw.fitted.roll_deg[0] * wide, draw.fitted.roll_deg[1], times) * degree
    yaw = draw.drift(*draw.fitted.yaw_deg, times).clamp(-58, 58) * degree
    pitch = draw.drift(*draw.fitted.pitch_deg, times) * degree
    depth = draw.between(0.0, draw.fitted.depth)
    zero, one = torch.zeros_like(times), torch.ones_like(times)

    def stack(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], 1)

    around_y = stack((yaw.cos(), zero, zero), (zero, one, zero), (yaw.sin() * depth, zero, one))
    around_x = stack((one, zero, zero), (zero, pitch.cos(), zero), (zero, pitch.sin() * depth, one))
    shear = draw.drift(*draw.fitted.shear, times)
    in_plane = stack((roll.cos(), -roll.sin() + shear, zero), (roll.sin(), roll.cos(), zero), (zero, zero, one))
    return in_plane @ around_x @ around_y


def _geometry(draw: _Draw, class_id: int, times: Tensor) -> tuple[Tensor, Tensor]:
    """Per frame: height and width in pixels, as a camera would have cropped the sign, int64 (frames, 2); and the canvas
    pixels on the plane of the sign (-1..1), float (frames, CANVAS_SIZE, CANVAS_SIZE, 2)."""
    pose = _pose(draw, times)
    outline = _outline(class_id)
    points = torch.cat([outline, torch.ones(len(outline), 1)], 1) @ pose.transpose(1, 2)
    points = points[..., :2] / points[..., 2:]
    low, high = points.amin(1), points.amax(1)  # the sign's box, (frames, 2)

    larger = _frame_sizes(draw, times)
    extent = (high - low) / (high - low).amax(1, keepdim=True)
    # the crops of GTSRB leave a tenth around the sign, at least 5 px; the box was drawn by hand, wider than the sign
    margin = (larger * draw.fitted.margin[0]).clamp(min=draw.fitted.margin[1]).unsqueeze(1)
    sizes = (extent * (larger.unsqueeze(1) - 2 * margin) + 2 * margin).round().clamp(min=20)
    filled, by_track, by_frame = draw.fitted.filled
    share = (1 - 2 * margin / sizes) * (filled + draw.normal(by_frame, len(times), 2) + draw.gauss(by_track))
    offset = torch.stack([draw.drift(*draw.fitted.shift, times), draw.drift(*draw.fitted.shift, times)], 1)
    offset = offset + draw.normal(0.015, len(times), 2) + draw.fitted.low_right

    centre, half = (low + high) / 2, (high - low) / 2 / share.clamp(0.45, 0.95)
    position = (torch.arange(CANVAS_SIZE) - (KERNEL_SIZE / 2 - 1) + 0.5) / (OVERSAMPLING * IMAGE_SIZE) * 2 - 1
    y, x = torch.meshgrid(position, position, indexing="ij")
    canvas = torch.stack([x, y], -1).view(1, -1, 2)
    view = centre.unsqueeze(1) + (canvas - offset.unsqueeze(1)) * half.unsqueeze(1)
    view = torch.cat([view, torch.ones(len(times), view.shape[1], 1)], -1)
    plane = view @ torch.linalg.inv(pose).transpose(1, 2)
    plane = plane[..., :2] / plane[..., 2:]
    return sizes.flip(1).long(), plane.view(len(times), CANVAS_SIZE, CANVAS_SIZE, 2)


# -------------------------------------------------------------------------------------------------- background

_PALETTE = torch.tensor(  # reflectances in linear light
    [
        (0.020, 0.030, 0.012),  # leaves in shade
        (0.050, 0.080, 0.020),  # leaves
        (0.110, 0.120, 0.030),  # leaves in sun
        (0.160, 0.090, 0.025),  # autumn
        (0.300, 0.170, 0.040),  # autumn in sun
        (0.060, 0.045, 0.030),  # bark
        (0.010, 0.010, 0.012),  # deep shade
        (0.015, 0.015, 0.020),
        (0.070, 0.070, 0.075),  # asphalt
        (0.180, 0.180, 0.180),  # concrete
        (0.350, 0.340, 0.310),  # plaster
        (0.200, 0.080, 0.050),  # brick
        (0.600, 0.600, 0.580),  # white wall
        (0.040, 0.060, 0.120),  # slate, shade under a blue sky
    ]
)
_SKY = torch.tensor([(0.95, 0.97, 1.0), (0.75, 0.8, 0.9), (0.35, 0.5, 0.85), (0.5, 0.55, 0.62), (1.3, 1.3, 1.3)])


def _pick(draw: _Draw, colours: Tensor) -> Tensor:
    """One colour of a table, varied, (3, 1, 1)."""
    colour = colours[int(draw.between(0, len(colours)))]
    return (colour * torch.exp(draw.normal(0.1, 3)) * math.exp(draw.gauss(0.5))).view(3, 1, 1)


def _coordinates() -> tuple[Tensor, Tensor]:
    position = torch.linspace(-1, 1, BACKGROUND_SIZE)
    return position.view(1, -1), position.view(-1, 1)


def _foliage(draw: _Draw) -> tuple[Tensor, Tensor]:
    """Clumps of two colours with light between them."""
    fine = draw.noise(BACKGROUND_SIZE, 48) + draw.noise(BACKGROUND_SIZE, 90)
    coarse = draw.noise(BACKGROUND_SIZE, int(draw.between(4, 14)))
    mix = torch.sigmoid(1.5 * fine + coarse)
    colour = _pick(draw, _PALETTE[:8]) * mix + _pick(draw, _PALETTE[:8]) * (1 - mix)
    mask = torch.sigmoid((coarse + draw.between(0.2, 1.2) * fine + draw.gauss(0.8, 0.6)) * draw.between(2, 8))
    return colour * torch.exp(0.5 * draw.noise(BACKGROUND_SIZE, 64)), mask


def _building(draw: _Draw) -> tuple[Tensor, Tensor]:
    """A wall with an edge somewhere, and rows of windows or boards."""
    x, y = _coordinates()
    angle = draw.gauss(0.08)
    across, along = x + angle * y, y - angle * x
    edge = torch.sigmoid((across * (1 if draw.chance(0.5) else -1) + draw.between(-0.3, 0.8)) * 40)
    roof = torch.sigmoid((along + draw.between(-0.2, 1.2)) * 40)
    wall, window = _pick(draw, _PALETTE[6:]), _pick(draw, _PALETTE[6:])
    columns = torch.sigmoid(torch.sin(across * draw.between(4, 30) + draw.between(0, 6)) * 8 - draw.between(-2, 5))
    rows = torch.sigmoid(torch.sin(along * draw.between(4, 40) + draw.between(0, 6)) * 8 - draw.between(-2, 5))
    kind = draw.between(0, 1)
    pattern = columns * rows if kind < 0.5 else rows.expand(BACKGROUND_SIZE, BACKGROUND_SIZE) * (kind < 0.8)
    return wall + (window - wall) * pattern, edge * roof


def _bars(draw: _Draw) -> tuple[Tensor, Tensor]:
    """Trunks, branches, masts, wires: one to four straight bars of one colour."""
    x, y = _coordinates()
    mask = torch.zeros(BACKGROUND_SIZE, BACKGROUND_SIZE)
    upright = draw.chance(0.6)
    for _ in range(int(draw.between(1, 5))):
        angle = draw.gauss(0.12) if upright else draw.between(0, math.pi)
        distance = (math.cos(angle) * x + math.sin(angle) * y - draw.between(-1, 1)).abs()
        mask = torch.maximum(mask, torch.sigmoid((math.exp(draw.gauss(0.8, -3.2)) - distance) * 60))
    return _pick(draw, _PALETTE), mask


def _panel(draw: _Draw) -> tuple[Tensor, Tensor]:
    """A coloured rectangle: another sign, a car, an advertisement."""
    x, y = _coordinates()
    width, height = draw.between(0.08, 0.5), draw.between(0.05, 0.4)
    inside = torch.minimum(width - (x - draw.between(-1, 1)).abs(), height - (y - draw.between(-1, 1)).abs())
    border = torch.sigmoid((inside - 0.03) * 80)
    outer, inner = draw.uniform(0, 1, 3, 1, 1).pow(GAMMA), draw.uniform(0, 1, 3, 1, 1).pow(GAMMA)
    return outer + (inner - outer) * border, torch.sigmoid(inside * 80)


_LAYERS: tuple[tuple[float, Callable[[_Draw], tuple[Tensor, Tensor]]], ...] = (
    (0.40, _foliage),
    (0.35, _building),
    (0.35, _bars),
    (0.35, _foliage),
    (0.25, _panel),
    (0.20, _bars),
)


def _background(draw: _Draw) -> Tensor:
    """float (3, BACKGROUND_SIZE, BACKGROUND_SIZE), linear light: sky or dark over ground, then layers in front."""
    _, y = _coordinates()
    upper = _pick(draw, _SKY) if draw.chance(0.5) else _pick(draw, _PALETTE)
    lower = _pick(draw, _PALETTE) if draw.chance(0.75) else upper * math.exp(draw.gauss(0.3))
    horizon = torch.sigmoid((y - draw.between(-0.6, 1.0)) * math.exp(draw.between(0.3, 3.5)))
    scene = upper + (lower - upper) * horizon + torch.zeros(3, BACKGROUND_SIZE, BACKGROUND_SIZE)
    for share, layer in _LAYERS:
        if draw.chance(share):
            colour, mask = layer(draw)
            scene = scene + (colour - scene) * mask
    texture = 0.25 * draw.noise(BACKGROUND_SIZE, 80) + 0.2 * draw.noise(BACKGROUND_SIZE, 24)
    return scene * torch.exp(draw.between(0.1, 1.2) * texture + 0.25 * draw.noise(BACKGROUND_SIZE, 3))


def _seen_background(draw: _Draw, times: Tensor, sizes: Tensor) -> Tensor:
    """float (frames, 3, CANVAS_SIZE, CANVAS_SIZE): the nearer the car, the more of the scene is behind the sign."""
    reach = (sizes.amax(1) / 200).clamp(0.12, 1).pow(0.6) * draw.between(0.5, 0.9)
    shift_x, shift_y = draw.drift(0.4, 0.6, times), draw.drift(0.3, 0.4, times)
    zero = torch.zeros_like(times)
    affine = torch.stack([torch.stack([reach, zero, shift_x], 1), torch.stack([zero, reach, shift_y], 1)], 1)
    grid = F.affine_grid(affine, [len(times), 3, CANVAS_SIZE, CANVAS_SIZE], align_corners=False)
    scene = _background(draw).expand(len(times), -1, -1, -1)
    return F.grid_sample(scene, grid, padding_mode="reflection", align_corners=False)


# --------------------------------------------------------------------------------------------------- the sign


def _paint(draw: _Draw, texture: Tensor) -> Tensor:
    """The drawing as it hangs there: colours bleed into each other as paint fades, white stays white."""
    deviation, share, old = draw.fitted.fade
    fade = abs(draw.gauss(deviation)) + (draw.between(0.1, old) if draw.chance(share) else 0.0)
    mixing = torch.eye(3) + torch.tensor([[0.0, 0.3, 0.25], [0.8, 0.0, 0.8], [1.0, 1.0, 0.0]]) * (
        fade * draw.uniform(0.1, 1.0, 3, 3)
    )
    mixing = mixing + draw.normal(draw.fitted.mixing, 3, 3).abs()
    mixing = mixing / mixing.sum(1, keepdim=True)
    # rows mix channels of the drawing into one channel of the result; red gains green and blue last
    colours = torch.einsum("ij,jhw->ihw", mixing, texture[:3].pow(draw.between(*draw.fitted.paint_gamma)))
    black = draw.between(0.005, draw.fitted.black_paint) + fade * 0.1  # black paint greys
    colours = colours * (1 - black) + black * texture[3:]
    dirt = draw.noise(ARTWORK_SIZE, 6) + draw.noise(ARTWORK_SIZE, 14) + 0.7 * draw.noise(ARTWORK_SIZE, 36)
    return torch.cat([colours * torch.exp(draw.between(0, draw.fitted.dirt) * dirt), texture[3:]])


def _soft(distance: Tensor) -> Tensor:
    """Inside of an edge on the plane of the sign: 1 where `distance` is positive, about two canvas pixels soft."""
    return torch.sigmoid(distance * 60)


def _illumination(draw: _Draw, times: Tensor, plane: Tensor) -> Tensor:
    """float (frames, 1, H, W): light on the sign, about 1: a gradient and, on some signs, the shadows of leaves."""
    x, y = plane[..., 0], plane[..., 1]
    strength = draw.fitted.gradient[draw.chance(0.15)]
    slope_x, slope_y = (draw.drift(strength, strength, times).view(-1, 1, 1) for _ in range(2))
    light = torch.exp(slope_x * x.clamp(-1.5, 1.5) + slope_y * y.clamp(-1.5, 1.5))
    if draw.chance(draw.fitted.shadows):
        leaves = draw.noise(48, int(draw.between(3, 14)))
        shade = draw.between(0.15, 0.7) + (1 - draw.between(0.15, 0.7)) * torch.sigmoid(
            (leaves + draw.gauss(0.7)) * draw.between(2, 8)
        )
        move = torch.stack([draw.drift(0.2, 0.25, times), draw.drift(0.2, 0.25, times)], 1).view(-1, 1, 1, 2)
        shade = shade.expand(len(times), 1, -1, -1)
        moved = F.grid_sample(shade, plane * 0.6 + move, padding_mode="reflection", align_corners=False)
        light = light * moved[:, 0]
    return light.unsqueeze(1)


def _over(scene: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    return scene + (colour - scene) * alpha


def _neighbours(draw: _Draw, scene: Tensor, plane: Tensor, light: float) -> Tensor:
    """The post, and often a plate or another sign above or below."""
    x, y = plane[..., 0].unsqueeze(1), plane[..., 1].unsqueeze(1)
    if draw.chance(draw.fitted.post):
        width, lean = draw.between(0.03, 0.14), draw.gauss(0.15)
        above = 3.0 if draw.chance(0.35) else draw.between(0.8, 1.1)
        grey = _pick(draw, torch.tensor([(0.3, 0.3, 0.3), (0.15, 0.15, 0.16), (0.06, 0.06, 0.06)])) * light
        scene = _over(scene, grey, _soft(width - (x - lean).abs()) * _soft(y + above))
    if draw.chance(draw.fitted.plate):
        width, top = draw.between(0.5, 1.0), draw.between(1.0, 1.15)
        inside = torch.minimum(width - x.abs(), torch.minimum(y - top, top + draw.between(0.3, 0.7) - y))
        print_ = 0.8 * _soft(inside - 0.05) * (1 - _soft(inside - 0.09)) + 0.3 * _soft(inside - 0.15)
        white = draw.between(0.5, 0.8) * light
        scene = _over(scene, white * (1 - print_ * draw.between(0.3, 1.0)), _soft(inside))
    if draw.chance(draw.fitted.second_sign):
        texture = _paint(draw, _any_texture(draw, int(draw.between(0, NUM_CLASSES))))
        side = draw.between(0, 1)
        if side < 0.8:  # on the same post
            offset = (draw.gauss(0.05), draw.between(1.9, 2.15) * (1 if side < 0.5 else -1))
        else:
            offset = (draw.between(1.9, 2.3) * (1 if side < 0.9 else -1), draw.gauss(0.2))
        moved = plane - torch.tensor(offset)
        other = F.grid_sample(texture.expand(len(plane), -1, -1, -1), moved, align_corners=False)
        scene = scene * (1 - other[:, 3:]) + other[:, :3] * light
    return scene


def _stains(draw: _Draw, sign: Tensor, plane: Tensor) -> Tensor:
    """A sticker or dirt on a few signs, within the sign's alpha."""
    x, y = plane[..., 0].unsqueeze(1), plane[..., 1].unsqueeze(1)
    for _ in range(int(draw.between(1, 3)) if draw.chance(draw.fitted.stains) else 0):
        across, along = (x - draw.between(-0.8, 0.8)).abs(), (y - draw.between(-0.8, 0.8)).abs()
        mask = _soft(torch.minimum(draw.between(0.05, 0.18) - across, draw.between(0.05, 0.18) - along))
        colour = draw.uniform(0, 0.9, 3, 1, 1).pow(GAMMA)
        sign = torch.cat([_over(sign[:, :3], colour * sign[:, 3:], mask), sign[:, 3:]], 1)
    return sign


def _twigs(draw: _Draw, scene: Tensor, plane: Tensor) -> Tensor:
    """Something thin in front of a few signs."""
    if not draw.chance(0.03):
        return scene
    x, y = plane[..., 0].unsqueeze(1), plane[..., 1].unsqueeze(1)
    for _ in range(int(draw.between(1, 4))):
        angle = draw.between(0, math.pi)
        distance = (math.cos(angle) * x + math.sin(angle) * y - draw.between(-1, 1)).abs()
        scene = _over(scene, _pick(draw, _PALETTE), _soft(draw.between(0.01, 0.06) - distance))
    return scene


# ---------------------------------------------------------------------------------------------- lens and sensor


def _kernels(draw: _Draw, sizes: Tensor) -> Tensor:
    """float (frames, 3, KERNEL_SIZE, KERNEL_SIZE), each summing to 1: what the camera and the resizing do to a point.

    A line (motion) smeared by a Gaussian (defocus, pixel, resizing), sharpened as cameras do, with the three colours a
    little apart. All lengths are in pixels of the original image: a small crop is enlarged with its blur.
    """
    num_frames = len(sizes)
    scale = OVERSAMPLING * IMAGE_SIZE / sizes.amax(1).float()  # canvas pixels per original pixel
    share, most = draw.fitted.out_of_focus
    focus = draw.between(*draw.fitted.focus_px) * (draw.between(1.5, most) if draw.chance(share) else 1.0)
    # the resizing filter: a triangle of one image pixel where it shrinks, of one original pixel where it enlarges
    resizing = 0.41 * torch.clamp(scale, min=float(OVERSAMPLING))
    defocus = focus * torch.exp(draw.normal(0.2, num_frames))
    sigma = ((defocus * scale) ** 2 + resizing**2).sqrt()
    speed = abs(draw.gauss(draw.fitted.motion_px)) * draw.rarely(*draw.fitted.fast, 1.0)
    nearness = 0.6 + 0.4 * sizes.amax(1) / 50  # near signs sweep faster through the view
    length = (speed * nearness * draw.uniform(0.3, 1.2, num_frames) * scale).clamp(0.05, 11)
    angle = draw.between(0, math.pi) + draw.drift(0.0, 1.0, torch.linspace(0, 1, num_frames))
    fringe = draw.normal(draw.fitted.fringe_px, 1, 3, 2) * scale.view(-1, 1, 1)
    fringe = fringe - fringe[:, 1:2]  # green stays

    position = torch.arange(KERNEL_SIZE) - (KERNEL_SIZE - 1) / 2
    y, x = torch.meshgrid(position, position, indexing="ij")
    x = x - fringe[..., 0, None, None]
    y = y - fringe[..., 1, None, None]
    cosine, sine = angle.cos().view(-1, 1, 1, 1), angle.sin().view(-1, 1, 1, 1)
    along, across = cosine * x + sine * y, -sine * x + cosine * y

    def smeared(width: Tensor) -> Tensor:
        width = width.view(-1, 1, 1, 1)
        half = length.view(-1, 1, 1, 1) / 2
        line = torch.erf((along + half) / (width * math.sqrt(2))) - torch.erf((along - half) / (width * math.sqrt(2)))
        kernel = line * torch.exp(-0.5 * (across / width) ** 2)
        return kernel / kernel.sum((2, 3), keepdim=True)

    sharpening = draw.between(0.1, draw.fitted.sharpening)
    return (1 + sharpening) * smeared(sigma) - sharpening * smeared((sigma**2 + scale**2).sqrt())


def _expose(draw: _Draw, images: Tensor, sizes: Tensor) -> Tensor:
    """Linear light, float (frames, 3, 32, 32) -> uint8: white balance, haze, tone curve, black level, noise."""
    num_frames = len(images)
    balance = torch.exp(draw.normal(draw.fitted.balance, 3) * torch.tensor([1.0, 0.3, 1.0])).view(3, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = (grey + (images - grey) * draw.between(*draw.fitted.chroma)) * balance
    if draw.chance(draw.fitted.haze):
        haze = draw.between(0.05, 0.4)
        images = images * (1 - haze) + haze * draw.uniform(0.25, 0.45, 3, 1, 1) * draw.between(0.1, 0.7)
    flare = images.mean((1, 2, 3), keepdim=True) * draw.between(0.0, 0.02)
    toned = (images + flare).clamp(0, 1).pow(1 / draw.between(*draw.fitted.curve))
    black = draw.between(*draw.fitted.black) + draw.normal(0.006, 3, 1, 1)
    toned = black + (1 - black) * toned

    # noise is one value per original pixel: averaged where the resizing shrinks, smooth where it enlarges
    averaging = (IMAGE_SIZE / sizes.amax(1).float()).clamp(max=1.0).view(-1, 1, 1, 1)
    grain = draw.normal(1.0, num_frames, 1, IMAGE_SIZE, IMAGE_SIZE)
    colour_grain = draw.normal(0.5, num_frames, 3, IMAGE_SIZE, IMAGE_SIZE)
    strength = math.exp(draw.between(*draw.fitted.log_noise)) * averaging
    noisy = toned + (grain + colour_grain) * strength * (0.5 + toned.sqrt())
    return (noisy.clamp(0, 1) * 255).round().to(torch.uint8)


def render_track(plan: TrackPlan) -> tuple[np.ndarray, np.ndarray]:
    """One track: uint8 (frames, 3, 32, 32), RGB; int32 (frames, 2), height and width of its crops before resizing."""
    draw = _Draw(plan.seed, plan.fitted)
    times = torch.linspace(0, 1, plan.num_frames) if plan.num_frames > 1 else draw.uniform(0, 1, 1)
    sizes, plane = _geometry(draw, plan.class_id, times)

    # logarithms; GTSRB holds signs from nearly black to burnt out
    rank = draw.between(0, 1) if plan.light is None else plan.light
    mean, deviation, change = draw.fitted.exposure
    level = mean + deviation * math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * min(max(rank, 0.02), 0.98) - 1)))
    exposure = level + draw.drift(0.0, change, times)
    sign_light = torch.exp(exposure.clamp(-4.5, 1.4)).view(-1, 1, 1, 1)
    behind = draw.drift(*draw.fitted.behind, times) + draw.rarely(*draw.fitted.bright_sky, 0.0)
    contrast = torch.exp(behind).view(-1, 1, 1, 1)  # light behind over light on the sign
    tint = draw.colour_drift(*draw.fitted.tint, times)

    scene = _seen_background(draw, times, sizes) * contrast
    scene = _neighbours(draw, scene, plane, math.exp(draw.gauss(0.3)))
    texture = _paint(draw, _any_texture(draw, plan.class_id)).expand(plan.num_frames, -1, -1, -1)
    sign = _stains(draw, F.grid_sample(texture, plane, align_corners=False), plane)
    light = _illumination(draw, times, plane) * tint
    scene = scene * (1 - sign[:, 3:]) + sign[:, :3] * light
    scene = _twigs(draw, scene, plane) * sign_light
    if draw.chance(draw.fitted.glare):
        x, y = plane[..., 0].unsqueeze(1), plane[..., 1].unsqueeze(1)
        distance = (x - draw.drift(0.4, 0.2, times).view(-1, 1, 1, 1)) ** 2 + (y - draw.gauss(0.4)) ** 2
        scene = scene + sign[:, 3:] * torch.exp(-distance * draw.between(0.8, 5)) * draw.between(0.05, 0.5)

    return _photographed(draw, scene, sizes), sizes.numpy().astype(np.int32)


def _photographed(draw: _Draw, scene: Tensor, sizes: Tensor) -> np.ndarray:
    """Linear light on the canvas -> uint8 (frames, 3, 32, 32)."""
    kernels = _kernels(draw, sizes).view(-1, 1, KERNEL_SIZE, KERNEL_SIZE)
    # clipping here as well: what burns out on the sensor does not bleed without limit
    flat = scene.clamp(0, draw.fitted.highlights).reshape(1, -1, CANVAS_SIZE, CANVAS_SIZE)
    blurred = F.conv2d(flat, kernels, stride=OVERSAMPLING, groups=len(kernels))
    images: np.ndarray = _expose(draw, blurred.view(-1, 3, IMAGE_SIZE, IMAGE_SIZE), sizes).numpy()
    return images


def render_background(seed: int) -> np.ndarray:
    """What is behind signs, without one: uint8 (3, 32, 32), RGB."""
    draw = _Draw(seed, FITTED)
    times = draw.uniform(0, 1, 1)
    sizes = _frame_sizes(draw, times).round().long().view(1, 1).expand(1, 2)
    mean, deviation, _ = draw.fitted.exposure
    light = draw.gauss(deviation, mean) + draw.drift(*draw.fitted.behind, times)
    scene = _seen_background(draw, times, sizes) * torch.exp(light.clamp(-4.5, 1.4)).view(1, 1, 1, 1)
    image: np.ndarray = _photographed(draw, scene, sizes)[0]
    return image


def render_tracks(
    plans: Sequence[TrackPlan], progress: Callable[[int], None] = lambda num_done: None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """All tracks, in order, on as many threads as torch is set to use.

    Each worker computes with one torch thread, so that the split of the work cannot change a rounding.

    Args:
        progress: called with the number of finished tracks.
    """
    for class_id in range(len(SIGNS)):  # the caches are filled before threads share them
        _outline(class_id)
        for design in range(num_designs(class_id)):
            _texture(class_id, design)
    num_threads = torch.get_num_threads()
    rendered: list[tuple[np.ndarray, np.ndarray]] = []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(), ThreadPoolExecutor(num_threads) as pool:
            for track in pool.map(render_track, plans):
                rendered.append(track)
                progress(len(rendered))
    finally:
        torch.set_num_threads(num_threads)
    return rendered
