"""Pictures of shapes, with their labels, in which only the shape tells the class.

Colours and textures of all shapes and of the background come from one distribution, and shapes
of all classes are of the same area, so a network has to look at outlines.

Every outline is a signed distance map, in pixels, negative inside (``[size, size]`` float32). The
picture takes each pixel's coverage from it (antialiasing), the label takes the inside and the ring
of void pixels; so the two cannot disagree.
"""

import math

import numpy as np

from fcn_plugin.data.labels import voc_palette

CLASSES = ("background", "circle", "square", "triangle", "star")
VOID = 255
SIZE = 64
MIN_SIZE = 32
SPLITS = ("train", "val")

# The circle's radius as a fraction of the image's side; the other shapes have the circle's area.
RADIUS = (8 / 64, 15 / 64)
MAX_SHAPES = 3
# The least visible part of a shape: neither cut off by the border nor covered by later shapes.
MIN_VISIBLE = 0.8
# RGB distances: the least between a picture's base colours, and the greatest from a base colour in
# its texture. So the two sides of an outline are at least 110 - 2 * 36 = 38 apart.
MIN_CONTRAST = 110
MAX_SWING = 36
COLOUR_RANGE = (30, 226)
GRAIN = 4.0

Map = np.ndarray
PALETTE = voc_palette()[: len(CLASSES)]


# --- outlines ------------------------------------------------------------------------------------

# class index -> number of points, and the radius half way between two points as a fraction of the
# radius at a point (a polygon's edges are straight there, a star's turn inwards); None = circle
OUTLINES: dict[int, tuple[int, float] | None] = {
    1: None,
    2: (4, math.cos(math.pi / 4)),
    3: (3, math.cos(math.pi / 3)),
    4: (5, 0.45),
}


def _grid(size: int) -> tuple[Map, Map]:
    """The x [1, size] and y [size, 1] of the pixel centres, to be broadcast."""
    y, x = np.ogrid[:size, :size]
    return (x + 0.5).astype(np.float32), (y + 0.5).astype(np.float32)


def _distance(
    class_index: int, centre: tuple[float, float], radius: float, turn: float, size: int
) -> Map:
    """Signed distance, in pixels, from every pixel centre to the outline of one shape.

    ``radius`` is that of a circle with the same area; ``turn`` is in radians.
    """
    x, y = _grid(size)
    x, y = x - centre[0], y - centre[1]
    from_centre = np.hypot(x, y)
    outline = OUTLINES[class_index]
    if outline is None:
        return from_centre - radius
    points, waist = outline
    # An outline of n points is one edge and its mirror image, n times around: fold the plane into
    # the wedge between a point, at angle 0, and the waist beside it. 2n triangles make the area.
    half = math.pi / points
    tip = radius * math.sqrt(math.pi / (points * waist * math.sin(half)))
    angle = np.abs((np.arctan2(y, x) - turn) % (2 * half) - half)
    x, y = from_centre * np.cos(angle) - tip, from_centre * np.sin(angle)
    edge_x, edge_y = tip * (waist * math.cos(half) - 1), tip * waist * math.sin(half)
    foot = ((edge_x * x + edge_y * y) / (edge_x**2 + edge_y**2)).clip(0, 1)
    distance = np.hypot(x - foot * edge_x, y - foot * edge_y)
    return np.copysign(distance, edge_y * x - edge_x * y)


# --- textures: [size, size] in [-1, 1], how far the colour swings from its base -------------------


def _waves(rng: np.random.Generator, x: Map, y: Map) -> tuple[Map, Map]:
    """Two crossed waves [H, W] of random direction, period (4 to 10 pixels) and phase."""
    turn, phase_u, phase_v = rng.uniform(0, 2 * math.pi, 3).tolist()
    frequency = 2 * math.pi / rng.uniform(4, 10)
    along_x, along_y = frequency * math.cos(turn), frequency * math.sin(turn)
    return np.sin(along_x * x + along_y * y + phase_u), np.sin(along_x * y - along_y * x + phase_v)


def _plain(rng: np.random.Generator, x: Map, y: Map) -> Map:
    return np.zeros((y.size, x.size), dtype=np.float32)


def _stripes(rng: np.random.Generator, x: Map, y: Map) -> Map:
    return np.clip(3 * _waves(rng, x, y)[0], -1, 1)


def _checks(rng: np.random.Generator, x: Map, y: Map) -> Map:
    u, v = _waves(rng, x, y)
    return np.clip(5 * u * v, -1, 1)


def _dots(rng: np.random.Generator, x: Map, y: Map) -> Map:
    u, v = _waves(rng, x, y)
    return np.clip(4 * (u + v - 0.8), -1, 1)


def _noise(rng: np.random.Generator, x: Map, y: Map) -> Map:
    return 2 * rng.random((y.size, x.size), dtype=np.float32) - 1


def _gradient(rng: np.random.Generator, x: Map, y: Map) -> Map:
    turn = rng.uniform(0, 2 * math.pi)
    along = math.cos(turn) * (2 * x / x.size - 1) + math.sin(turn) * (2 * y / y.size - 1)
    return along / math.sqrt(2)


TEXTURES = (_plain, _stripes, _checks, _dots, _noise, _gradient)


def _fill(rng: np.random.Generator, base: Map, size: int) -> Map:
    """A canvas ``[size, size, 3]`` of one random texture around the colour ``base`` (RGB)."""
    texture = TEXTURES[rng.integers(len(TEXTURES))](rng, *_grid(size))
    direction = rng.normal(size=3)
    swing = rng.uniform(0.5, 1) * MAX_SWING * direction / np.linalg.norm(direction)
    return base.astype(np.float32) + texture[..., None] * swing.astype(np.float32)


def _colours(rng: np.random.Generator, count: int) -> Map:
    """Base colours ``[count, 3]`` (RGB), every two at least ``MIN_CONTRAST`` apart.

    If two are too close, all are drawn again, so that no colour depends on its position.
    """
    pairs = np.triu_indices(count, 1)
    while True:
        colours = rng.uniform(*COLOUR_RANGE, (count, 3))
        distances = np.linalg.norm(colours[pairs[0]] - colours[pairs[1]], axis=1)
        if distances.min() >= MIN_CONTRAST:
            return colours


# --- pictures ------------------------------------------------------------------------------------


def _scene(rng: np.random.Generator, size: int) -> list[tuple[int, Map]]:
    """Shapes from the back to the front: class index and distance map, each recognisable."""
    count = rng.integers(1, MAX_SHAPES + 1)
    while True:
        scene: list[tuple[int, Map]] = []
        hidden = np.zeros((size, size), dtype=bool)
        for _ in range(count):  # from the front to the back
            class_index = int(rng.integers(1, len(CLASSES)))
            radius = rng.uniform(*RADIUS) * size
            # Within 0.3 radii of the border no shape would be visible enough.
            centre_x, centre_y = rng.uniform(0.3 * radius, size - 0.3 * radius, 2).tolist()
            turn = rng.uniform(0, 2 * math.pi)
            distance = _distance(class_index, (centre_x, centre_y), radius, turn, size)
            inside = distance < 0
            if (inside & ~hidden).sum() < MIN_VISIBLE * math.pi * radius**2:
                break
            hidden |= inside
            scene.insert(0, (class_index, distance))
        else:
            return scene


def draw(seed: int, split: str, index: int, size: int = SIZE) -> tuple[Map, Map]:
    """Draw picture number ``index`` of a split; the same arguments always give the same picture.

    Returns the image ``[size, size, 3]`` uint8 RGB and the label ``[size, size]`` uint8: class
    indices, 255 within one pixel of an outline.
    """
    rng = np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))
    )
    scene = _scene(rng, size)
    colours = _colours(rng, len(scene) + 1)
    image = _fill(rng, colours[0], size)
    label = np.zeros((size, size), dtype=np.uint8)
    for (class_index, distance), base in zip(scene, colours[1:], strict=True):
        coverage = np.clip(0.5 - distance, 0, 1)[..., None]
        image += coverage * (_fill(rng, base, size) - image)
        label[distance < 0] = class_index
        label[np.abs(distance) <= 1] = VOID
    image += GRAIN * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label
