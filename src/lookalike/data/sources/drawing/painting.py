"""Pictures of flowers: a plant painted with random light, pose and surroundings.

A picture depends only on (seed, species, image), from which it seeds its own generator.
"""

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from lookalike.data.sources.drawing import anatomy, botany
from lookalike.data.sources.drawing.anatomy import Array, Points, exact, mix, rotation, smoothstep
from lookalike.data.sources.drawing.botany import Species

SUPERSAMPLING = 2  # canvas pixels to a picture's pixel, per side
FLIP = np.array([1, -1, 1])  # y points down in pixels, and up in a plant

BACKDROPS = (  # far colour, near colour
    ((0.30, 0.45, 0.20), (0.12, 0.24, 0.08)),  # meadow
    ((0.55, 0.72, 0.92), (0.30, 0.48, 0.22)),  # sky over grass
    ((0.20, 0.25, 0.16), (0.05, 0.08, 0.05)),  # shade
    ((0.46, 0.36, 0.26), (0.26, 0.18, 0.11)),  # soil
    ((0.72, 0.72, 0.68), (0.48, 0.48, 0.44)),  # gravel
    ((0.75, 0.78, 0.50), (0.35, 0.45, 0.20)),  # hay
    ((0.55, 0.42, 0.52), (0.22, 0.26, 0.20)),  # heath
)


class Canvas:
    """Pixels with a depth buffer and one source of light.

    pixels: (3, side, side) float32, red, green, blue.
    depth: (side, side) float32, of the painted points, in pixels towards the viewer.

    Args:
        backdrop: (3, side, side) float32, the initial pixels.
        sun: (3,), the unit vector towards the light.
        ambient: brightness of points that the light does not reach, in [0, 1].
    """

    def __init__(self, backdrop: Array, sun: Array, ambient: float) -> None:
        self.side = backdrop.shape[1]
        self.sun = sun
        self.ambient = ambient
        self.pixels = backdrop.copy()
        self.depth = np.full((self.side, self.side), -self.side, np.float32)

    def paint(self, points: Points, at: Array, scale: float) -> None:
        """Paint the points that are not hidden by others.

        Args:
            points: N of them.
            at: (3,), the pixel x, y, z of their origin.
            scale: pixels to their unit.
        """
        x, y, z = points.position * np.float32(scale)
        x, y, z = at[0] + x, at[1] - y, at[2] + z
        inside = np.flatnonzero((x >= 0) & (x < self.side) & (y >= 0) & (y < self.side))
        z = z.take(inside)
        pixel = y.take(inside).astype(np.int32) * self.side + x.take(inside).astype(np.int32)
        depth = self.depth.reshape(-1)
        np.maximum.at(depth, pixel, z)
        front = np.flatnonzero(z >= depth.take(pixel))
        visible, pixel = inside.take(front), pixel.take(front)
        brightness = self.brightness(points.normal.take(visible, axis=1))
        colours = points.colour.take(visible, axis=1) * brightness
        for channel, colour in zip(self.pixels, colours, strict=True):
            channel.reshape(-1)[pixel] = colour

    def brightness(self, normal: Array) -> Array:
        """The brightness of points with these normals, (3, N) -> (N,).

        Petals are thin, so light passes through to their backs.
        """
        x, y, z = normal * self.sun[:, None]
        lit = (x + y + z) * np.where(normal[2] < 0, np.float32(-1), np.float32(1))
        return self.ambient + (1.15 - self.ambient) * np.maximum(lit, -0.25 * lit)


def draw(seed: int, number: int, image: int, size: int) -> NDArray[np.uint8]:
    """Picture `image` of species `number`: (size, size, 3) uint8."""
    rng = default_rng(SeedSequence(seed, spawn_key=(number, image)))
    kind = botany.species(seed, number)
    x, y = rng.uniform(-0.8, 0.8, 2)
    sun = exact(np.array([x, y, 1.0]) / np.sqrt(x * x + y * y + 1))
    ambient = float(rng.uniform(0.3, 0.65))
    blurred = background(size, sun, ambient, rng)
    enlarged = blurred.repeat(SUPERSAMPLING, axis=1).repeat(SUPERSAMPLING, axis=2)
    canvas = Canvas(enlarged, sun, ambient)
    plant(canvas, kind, rng)
    if rng.random() < 0.3:
        foreground(canvas, rng)
    return develop(canvas, rng)


def background(size: int, sun: Array, ambient: float, rng: Generator) -> Array:
    """A blurred background of leaves and flowers before a backdrop, (3, size, size)."""
    canvas = Canvas(backdrop(size, rng), sun, ambient)
    for _ in range(rng.integers(0, 7)):
        base = exact([*rng.uniform(0, size, 2), 0])
        leaf(canvas, random_genus(rng), base, 0.5, rng)
    for _ in range(rng.integers(0, 4)):
        kind, radius = random_genus(rng), size * float(rng.uniform(0.05, 0.16))
        petals = anatomy.whorl(kind, kind.petals, 1, kind.cup, pose(rng), radius, rng)
        canvas.paint(petals, exact([*rng.uniform(0, size, 2), 0]), radius)
    return blur(canvas.pixels, int(rng.integers(2, 5)))


def backdrop(size: int, rng: Generator) -> Array:
    """A mottled meadow, sky or soil, (3, size, size)."""
    far, near = np.array(BACKDROPS[rng.integers(len(BACKDROPS))], np.float32)[:, :, None, None]
    height = np.linspace(0, 1, size, dtype=np.float32)[None, :, None]
    horizon = float(rng.uniform(0.2, 0.8))
    coarse = rng.uniform(-1, 1, (1, 6, 6)) * rng.uniform(0.03, 0.2)
    hues = rng.uniform(-0.05, 0.05, (3, 6, 6))
    fine = rng.uniform(-1, 1, (1, 24, 24)) * rng.uniform(0.0, 0.15)
    plain = mix(far, near, smoothstep(height, horizon - 0.4, horizon + 0.4))
    return plain + enlarge(exact(coarse + hues), size) + enlarge(exact(fine), size)


def random_genus(rng: Generator) -> Species:
    """A random genus, for the flowers in the background."""
    return botany.GENERA[rng.integers(len(botany.GENERA))]


def pose(rng: Generator) -> Array:
    """A random rotation of a blossom, (3, 3): it leans by at most 45 degrees, mostly upwards."""
    lean, towards, roll = rng.uniform(0, 0.8), rng.triangular(-2.4, 0, 2.4), rng.uniform(-0.4, 0.4)
    return exact(rotation(2, towards) @ rotation(0, -lean) @ rotation(2, roll))


def plant(canvas: Canvas, kind: Species, rng: Generator) -> None:
    """Paint the plant: blossoms, each on its stem, and leaves behind them."""
    side = canvas.side
    count = blossom_count(kind, rng)
    radius = side * float(rng.uniform(0.34, 0.46)) / (1 + 0.06 * count + 0.35 * (count > 1))
    radius *= 1 + 0.4 * max(0.0, kind.cup - 0.4)  # a cup is narrower than deep
    middle = np.array([0.5 + rng.uniform(-0.12, 0.12), 0.47 + rng.uniform(-0.12, 0.12), 0]) * side
    foot = np.array([side * rng.uniform(0.2, 0.8), side * 1.15, -1.5 * radius])
    azimuth = rng.uniform(0, 2 * np.pi)
    ring = count - (count > 4)  # of five or more blossoms, one is in the middle
    for k in range(count):
        angle = azimuth + k * 2 * np.pi / ring + rng.uniform(-0.2, 0.2)
        spread = radius * 1.1 * (count > 1 and k < ring)
        offset = np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.3, 0.3)])
        flower(canvas, kind, exact(middle + spread * offset), foot, radius, rng)
    for _ in range(rng.integers(2, 6)):
        x, y, _z = middle + (foot - middle) * rng.uniform(0.1, 0.7)
        leaf(canvas, kind, exact([x, y, -1.2 * radius]), 0.45, rng)


def blossom_count(kind: Species, rng: Generator) -> int:
    """How many blossoms a picture shows: about as many as the species has."""
    if kind.blossoms == 1:
        return 1 + int(rng.random() < 0.2)
    return kind.blossoms + int(rng.integers(-1, 2))


def flower(
    canvas: Canvas, kind: Species, at: Array, foot: Array, radius: float, rng: Generator
) -> None:
    """Paint a blossom at a pixel (3,), and its stem down to the pixel `foot` (3,)."""
    turn, size = pose(rng), radius * float(rng.uniform(0.85, 1.1))
    for part in anatomy.blossom(kind, turn, size, rng):
        canvas.paint(part, at, size)
    canvas.paint(stem((foot - at) * FLIP / size, -0.9 * turn[:, 2], canvas.side, size), at, size)


def stem(foot: Array, behind: Array, steps: int, detail: float) -> Points:
    """A green tube from the origin to the point `foot` (3,), bent towards `behind` (3,)."""
    t = np.linspace(0, 1, steps)
    curve = 2 * t * (1 - t) * behind[:, None] + t * t * foot[:, None]  # (3, steps), a Bezier curve
    green = anatomy.pigment("grass")[:, :, 0] * np.float32(1.15)
    return anatomy.beads(exact(curve), 0.05, np.repeat(green, steps, axis=1), detail)


def leaf(canvas: Canvas, kind: Species, base: Array, length: float, rng: Generator) -> None:
    """Paint a leaf from the pixel `base` (3,) in a random direction.

    Its length is about `length` times the side of the canvas.
    """
    scale = canvas.side * length * float(rng.uniform(0.7, 1.3))
    spin, lean, rise = rng.uniform((0, -0.7, -0.3), (2 * np.pi, 0.7, 0.3))
    turn = exact(rotation(2, spin) @ rotation(0, lean))
    canvas.paint(anatomy.whorl(botany.leaf(kind), 1, 1, rise, turn, scale, rng), base, scale)


def foreground(canvas: Canvas, rng: Generator) -> None:
    """Paint one or two leaves in front of the plant, from the border inwards."""
    for _ in range(rng.integers(1, 3)):
        angle = rng.uniform(0, 2 * np.pi)
        base = [0.5 + 0.6 * np.cos(angle), 0.5 + 0.6 * np.sin(angle), 0.9]
        leaf(canvas, random_genus(rng), exact(np.array(base) * canvas.side), 0.35, rng)


def develop(canvas: Canvas, rng: Generator) -> NDArray[np.uint8]:
    """The final picture, (size, size, 3) uint8: shadows, exposure, colour balance, blur, grain."""
    rows = canvas.pixels[:, ::2] + canvas.pixels[:, 1::2]
    picture = (rows[:, :, ::2] + rows[:, :, 1::2]) / 4  # (3, size, size)
    warmth, tint, exposure = rng.uniform((-0.14, -0.05, 0.75), (0.14, 0.05, 1.25))
    balance = exact(np.array([1 + warmth, 1 + tint, 1 - warmth]) * exposure)
    picture = picture * shadows(canvas, float(rng.uniform(3, 7))) * balance[:, None, None]
    picture = blur(picture, int(rng.random() < 0.3))
    grain = rng.uniform(-1, 1, picture.shape) * rng.uniform(0.005, 0.05)
    return np.clip((picture + grain) * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def shadows(canvas: Canvas, strength: float) -> Array:
    """The brightness (size, size), lower where a pixel is farther away than its surroundings.

    Luft et al., "Image enhancement by unsharp masking the depth buffer", SIGGRAPH 2006.
    """
    far = np.float32(-0.3 * canvas.side)
    depth = np.maximum(canvas.depth[None, ::SUPERSAMPLING, ::SUPERSAMPLING], far)
    below = np.maximum(blur(depth, 3) - depth, 0)[0] * np.float32(strength / canvas.side)
    return np.where(depth[0] > far, 1 - np.minimum(below, 0.6), np.float32(1))


def blur(image: Array, levels: int) -> Array:
    """Blur (C, H, W) over about 2 ** levels pixels, by kernels (1, 2, 1) / 4 of doubling gaps."""
    for gap in (2**level for level in range(levels)):
        for axis in (1, 2):
            place = np.arange(image.shape[axis])
            before = image.take(np.maximum(place - gap, 0), axis)
            after = image.take(np.minimum(place + gap, place[-1]), axis)
            image = (before + image + image + after) / 4
    return image


def enlarge(image: Array, side: int) -> Array:
    """Enlarge (C, h, h) to (C, side, side), bilinearly."""
    place = np.linspace(0, image.shape[1] - 1, side, dtype=np.float32)
    low = np.minimum(place.astype(np.int32), image.shape[1] - 2)
    share = place - low.astype(np.float32)
    rows = mix(image[:, low], image[:, low + 1], share[:, None])
    return mix(rows[:, :, low], rows[:, :, low + 1], share)
