"""The body of a flower: petals, disc, stamens and leaves as clouds of coloured surface points.

Every number is the same on every machine, to the last bit: arrays only go through + - * / and sqrt,
which IEEE 754 defines exactly. Results of libm or BLAS are rounded first (see `exact`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lookalike.data.sources.drawing.botany import PIGMENTS, Species

Array = NDArray[np.floating]  # always float32; numpy's types take a Python float as float64

GOLDEN_ANGLE = 2.399963  # radians between neighbouring florets of a flower head
RIPPLES = 9.0  # radians of ruffle from a petal's midrib to its edge


@dataclass(frozen=True)
class Points:
    """A cloud of N surface points.

    position: (3, N) float32, x right, y up, z towards the viewer, in units of a blossom's radius.
    normal: (3, N) float32, of unit length.
    colour: (3, N) float32, red, green, blue in [0, 1].
    """

    position: Array
    normal: Array
    colour: Array


def exact(values: object) -> Array:
    """Float64 results of libm or BLAS as float32, rounded so that all machines agree."""
    return np.round(np.asarray(values, np.float64), 6).astype(np.float32)


def rotation(axis: int, angle: float | Array) -> NDArray[np.float64]:
    """Rotation matrices about one axis (0..2): (3, 3), or (N, 3, 3) for N angles in radians."""
    angles = np.asarray(angle, np.float64)
    matrix = np.zeros((*angles.shape, 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angles)
    matrix[..., second, first] = np.sin(angles)
    matrix[..., first, second] = -matrix[..., second, first]
    return matrix


def transform(matrices: Array, vectors: Array) -> Array:
    """Apply matrices (P, 3, 3) to vectors (3, N) -> (3, P * N).

    It sums in a fixed order, which BLAS does not.
    """
    columns = matrices.transpose(1, 2, 0)[..., None]  # (3, 3, P, 1)
    rows = [c[0] * vectors[0] + c[1] * vectors[1] + c[2] * vectors[2] for c in columns]
    return np.stack(rows).reshape(3, -1)


def pigment(name: str) -> Array:
    """The colour of this name, (3, 1, 1) float32 in [0, 1]."""
    return np.array(PIGMENTS[name], np.float32)[:, None, None]


def mix(colour: Array, other: Array, amount: Array | float) -> Array:
    """Linear interpolation: `colour` where `amount` is 0, `other` where it is 1."""
    return colour + (other - colour) * amount


def smoothstep(values: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, and a smooth S-curve between them."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def whorl(
    kind: Species,
    count: int,
    length: float,
    rise: float,
    pose: Array,
    detail: float,
    rng: Generator,
) -> Points:
    """A ring of petals around the z axis, each slightly different from the others.

    Args:
        kind: the look of a petal.
        count: number of petals.
        length: of a petal.
        rise: angle of the petals above the plane of the ring, radians.
        pose: (3, 3), rotates the ring.
        detail: pixels to the unit; there is about one point a pixel.
        rng: the random generator.
    """
    along, across = grid(length * detail, 2 * kind.width * length * detail)
    position, normal = surface(kind, along, across)
    colour = petal_colours(kind, along, across, rng)
    azimuth = (np.arange(count) + rng.uniform(-0.12, 0.12, count)) * (2 * np.pi / count)
    elevation = rise + rng.uniform(-0.1, 0.1, count)
    turned = pose.astype(np.float64) @ rotation(2, azimuth) @ rotation(1, -elevation)
    size = length * rng.uniform((0.9, 0.81, 0.9), (1.05, 1.13, 1.05), (count, 3))
    size *= 1 - kind.lip * np.cos(azimuth)[:, None]
    tints = rng.uniform(0.92, 1.04, (1, count, 1)).astype(np.float32)
    return Points(
        transform(exact(turned * size[:, None, :]), position.reshape(3, -1)),
        transform(exact(turned), normal.reshape(3, -1)),
        (colour.reshape(3, 1, -1) * tints).reshape(3, -1),
    )


def grid(length: float, width: float) -> tuple[Array, Array]:
    """Grid coordinates on a petal of `length` x `width` pixels: along (U, 1), across (1, V)."""
    # 1.35 points a pixel: with fewer, an oblique grid would leave pixels out
    along = np.linspace(0, 1, max(8, int(1.35 * length)), dtype=np.float32)[:, None]
    across = np.linspace(-1, 1, max(7, int(1.35 * width)), dtype=np.float32)[None, :]
    return along, across


def surface(kind: Species, along: Array, across: Array) -> tuple[Array, Array]:
    """A petal pointing along x: positions and normals, each (3, U, V)."""
    fine = along.astype(np.float64)  # `exact` needs more digits than float32 has
    outline = exact(fine ** (kind.tip * kind.widest / (1 - kind.widest)) * (1 - fine) ** kind.tip)
    ripple = exact(np.sin(across.astype(np.float64) * RIPPLES))
    half_width = kind.width * outline / outline.max()  # (U, 1)
    square = along * along
    teeth = np.abs((across * 4.5) % 1 - 0.5) * 2
    x = along - square * square * (kind.notch * (1 - np.abs(across)) + kind.fringe * teeth)
    y = half_width * across
    z = square * (kind.curl + kind.ruffle * ripple) + kind.trough * half_width * across * across
    position = np.stack(np.broadcast_arrays(x, y, z))
    return position, normals(position)


def normals(position: Array) -> Array:
    """The unit normals of a surface, (3, U, V), from differences of neighbouring points."""
    u: Array = np.gradient(position, axis=1)
    v: Array = np.gradient(position, axis=2)
    crossed = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    normal = np.stack(crossed)
    length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
    return normal / np.maximum(length, np.float32(1e-12))


def petal_colours(kind: Species, along: Array, across: Array, rng: Generator) -> Array:
    """The colours of a petal, (3, U, V): a gradient, then throat, margin, veins and spots."""
    edge, mark = np.abs(across), pigment(kind.mark_colour)
    colour = mix(pigment(kind.colour), pigment(kind.tip_colour), smoothstep(along, 0.35, 1.0))
    throat = 1 - smoothstep(along, 0.6 * kind.throat, kind.throat + 0.1)
    colour = mix(colour, pigment(kind.throat_colour), throat)
    if kind.margin:
        side = smoothstep(edge, 0.95 - 2 * kind.margin, 1.0)
        rim = np.maximum(side, smoothstep(along, 1 - kind.margin, 1.0))
        colour = mix(colour, mark, 0.85 * rim)
    if kind.veins:
        lines = smoothstep(np.abs((across * 3.5) % 1 - 0.5), 0.3, 0.5)
        colour = mix(colour, mark, kind.veins * lines * (1 - smoothstep(along, 0.25, 0.8)))
    spots = rng.uniform((0.2, -0.6, 0.02), (0.65, 0.6, 0.05), (kind.spots, 3))
    for u, v, radius in spots.tolist():
        x, y = along - u, (across - v) * kind.width
        inside = (x * x + y * y < radius * radius).astype(np.float32)
        colour = mix(colour, mark, 0.9 * inside)
    shade = 1 - 0.22 * smoothstep(edge, 0.75, 1.0)  # separates a petal from the one below it
    midrib = 1 - 0.12 * smoothstep(1 - edge, 0.9, 1.0)
    return colour * shade * midrib


def beads(centres: Array, radius: float, colours: Array, detail: float) -> Points:
    """Small balls: florets, anthers, or a stem.

    Args:
        centres: (3, N).
        radius: of every ball.
        colours: (3, N), in [0, 1].
        detail: pixels to the unit.
    """
    count = max(6, int(5 * (radius * detail) ** 2))
    x, y, reach = spiral(count)
    ball = exact([x, y, np.sqrt(1 - reach * reach)])  # the half that faces the viewer, (3, count)
    return Points(
        (centres[:, :, None] + np.float32(radius) * ball[:, None, :]).reshape(3, -1),
        np.tile(ball, centres.shape[1]),
        np.repeat(colours, count, axis=1),
    )


def spiral(count: int) -> NDArray[np.float64]:
    """Points spread evenly over the unit disc, as in a sunflower: x, y and radius, (3, count)."""
    k = np.arange(count)
    reach = np.sqrt((k + 0.5) / count)
    return np.stack([reach * np.cos(k * GOLDEN_ANGLE), reach * np.sin(k * GOLDEN_ANGLE), reach])


def heart(kind: Species, pose: Array, detail: float) -> Points:
    """The disc: florets on a low dome, darker in the middle."""
    count = 10 + int(300 * kind.disc * kind.disc + 60 * kind.disc)
    x, y, reach = spiral(count)
    dome = exact([x, y, 0.6 - 0.5 * reach * reach]) * np.float32(kind.disc)
    colours = pigment(kind.disc_colour)[:, :, 0] * exact(0.7 + 0.4 * reach)
    radius = 1.5 * kind.disc / float(np.sqrt(count))
    return beads(transform(pose[None], dome), radius, colours, detail)


def stamens(kind: Species, pose: Array, detail: float, rng: Generator) -> Iterator[Points]:
    """Filaments that lean outwards, then the anthers at their ends."""
    azimuth = rng.uniform(0, 2 * np.pi, kind.stamens)
    lean = rng.uniform(0.2, 0.9, kind.stamens)
    length = kind.filament * rng.uniform(0.8, 1.1, kind.stamens)
    x, y, z = np.sin(lean) * np.cos(azimuth), np.sin(lean) * np.sin(azimuth), np.cos(lean)
    tips = transform(pose[None], exact([x * length, y * length, z * length]))  # (3, stamens)
    steps = np.linspace(0, 1, max(4, int(1.5 * kind.filament * detail)), dtype=np.float32)
    threads = (tips[:, :, None] * steps).reshape(3, -1)
    pale = mix(pigment(kind.throat_colour), pigment("cream"), 0.6)[:, :, 0]
    yield beads(threads, 0.012, np.repeat(pale, threads.shape[1], axis=1), detail)
    pollen = pigment(kind.disc_colour)[:, :, 0] * np.float32(0.9)
    yield beads(tips, 0.05, np.repeat(pollen, kind.stamens, axis=1), detail)


def blossom(kind: Species, pose: Array, detail: float, rng: Generator) -> Iterator[Points]:
    """The parts of a blossom at the origin, rotated by `pose`, `detail` pixels to its radius."""
    for layer in range(kind.layers):
        turned = exact(pose.astype(np.float64) @ rotation(2, layer * np.pi / kind.petals))
        length, rise = 1 - 0.2 * layer, kind.cup + 0.22 * layer
        yield whorl(kind, kind.petals, length, rise, turned, detail, rng)
    if kind.corona:
        yield whorl(trumpet(kind), 6, kind.corona, 1.1, pose, detail, rng)
    yield heart(kind, pose, detail)
    if kind.stamens:
        yield from stamens(kind, pose, detail, rng)


def trumpet(kind: Species) -> Species:
    """The petals of a corona: wide, ruffled, in the colours of throat and disc."""
    shape = replace(kind, width=0.6, widest=0.8, tip=0.2, curl=-0.3, ruffle=0.06, spots=0)
    return replace(shape, colour=kind.throat_colour, tip_colour=kind.disc_colour)
