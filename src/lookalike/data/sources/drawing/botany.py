"""Invented species of flowers: how each looks, as numbers.

A species is a random variation of its genus: related species have the same build and differ in
details, like real ones.
"""

from dataclasses import dataclass, replace
from functools import cache

from numpy.random import Generator, SeedSequence, default_rng

PIGMENTS = {
    "white": (0.97, 0.96, 0.93),
    "cream": (0.97, 0.91, 0.70),
    "yellow": (0.98, 0.86, 0.18),
    "gold": (0.97, 0.68, 0.08),
    "orange": (0.95, 0.45, 0.10),
    "coral": (0.96, 0.50, 0.42),
    "red": (0.84, 0.10, 0.10),
    "crimson": (0.62, 0.04, 0.18),
    "maroon": (0.36, 0.05, 0.12),
    "blush": (0.98, 0.80, 0.82),
    "pink": (0.95, 0.52, 0.68),
    "magenta": (0.82, 0.16, 0.52),
    "lilac": (0.78, 0.66, 0.92),
    "purple": (0.52, 0.22, 0.68),
    "violet": (0.34, 0.20, 0.70),
    "blue": (0.25, 0.36, 0.86),
    "sky": (0.58, 0.74, 0.96),
    "lime": (0.70, 0.82, 0.30),
    "grass": (0.25, 0.46, 0.17),
    "olive": (0.36, 0.43, 0.16),
    "sage": (0.36, 0.50, 0.36),
    "spruce": (0.14, 0.38, 0.24),
    "brown": (0.30, 0.17, 0.08),
}

# fmt: off
EPITHETS = (
    "alba", "alpina", "amabilis", "arvensis", "aurata", "bella", "borealis", "campestris",
    "cordata", "decora", "elegans", "fragrans", "gracilis", "grandis", "hortensis", "insignis",
    "lucida", "maculata", "maritima", "mirabilis", "montana", "nana", "nobilis", "orientalis",
    "palustris", "parva", "pratensis", "pulchra", "radiata", "regalis", "rivalis", "silvestris",
    "speciosa", "superba", "tenera", "vernalis", "venusta", "vulgaris",
)
# fmt: on


@dataclass(frozen=True)
class Species:
    """The look of a species; lengths in blossom radii, angles in radians, strengths in 0..1."""

    name: str
    pigments: str  # possible colours of the genus, names of PIGMENTS separated by spaces
    petals: int = 5  # in each layer
    layers: int = 1
    width: float = 0.45  # half the width of a petal
    widest: float = 0.65  # where along the petal it is widest, 0 at its base, 1 at its tip
    tip: float = 0.45  # below 0.5 round, 1 pointed, above 1 elongated
    cup: float = 0.2  # how far the petals rise: 0 flat, 1.2 a tulip
    curl: float = 0.0  # above 0 the tips bend inwards, below outwards
    trough: float = 0.1  # how far the edges rise above the midrib
    notch: float = 0.0  # depth of the cut in the middle of the tip
    fringe: float = 0.0  # depth of the many cuts along the tip
    ruffle: float = 0.0  # height of the waves across a petal
    lip: float = 0.0  # how much larger the lowest petal is
    corona: float = 0.0  # length of the inner trumpet
    throat: float = 0.2  # how far from the centre the throat's colour reaches
    margin: float = 0.0  # width of the edge of another colour
    veins: float = 0.0  # strength
    spots: int = 0  # on each petal
    disc: float = 0.1  # radius
    stamens: int = 0
    filament: float = 0.4  # length of a stamen
    blossoms: int = 1  # of a plant
    leaf_width: float = 0.3  # half the width of a leaf
    leaf_tip: float = 1.0  # as `tip`
    colour: str = "white"
    tip_colour: str = "white"
    throat_colour: str = "yellow"
    mark_colour: str = "crimson"  # veins, spots and margin
    disc_colour: str = "gold"
    leaf_colour: str = "grass"


# A genus is its typical species.
# fmt: off
GENERA = (
    Species("Rosula", "white blush pink crimson yellow", layers=3, cup=0.35, trough=0.2,
            stamens=20),
    Species("Bellisia", "white blush lilac pink", petals=18, width=0.11, disc=0.3, leaf_width=0.2),
    Species("Solaria", "yellow gold orange red", petals=22, layers=2, width=0.12, widest=0.5,
            tip=0.9, disc=0.42, leaf_width=0.5),
    Species("Papavera", "red orange white pink", petals=4, width=0.75, widest=0.7, tip=0.3,
            cup=0.45, ruffle=0.05, stamens=34),
    Species("Lilionia", "white pink orange yellow", petals=6, width=0.2, widest=0.45, tip=1.0,
            cup=0.5, curl=-0.5, spots=12, disc=0.05, stamens=6, filament=0.8, leaf_width=0.12),
    Species("Tulipina", "red yellow purple white pink", petals=6, width=0.42, widest=0.5, tip=0.7,
            cup=1.05, curl=0.1, trough=0.35, disc=0.08, stamens=6, leaf_width=0.17),
    Species("Violina", "violet purple yellow white blue", width=0.52, tip=0.35, cup=0.1, lip=0.3,
            throat=0.4, veins=0.6, disc=0.06, leaf_width=0.35),
    Species("Campania", "blue violet lilac white", width=0.46, widest=0.5, tip=0.85, cup=0.85,
            curl=-0.3, blossoms=3, disc=0.05, stamens=3, leaf_width=0.2),
    Species("Dianthera", "pink magenta white red", width=0.48, widest=0.8, tip=0.3, cup=0.1,
            fringe=0.16, throat=0.3, disc=0.05, stamens=5, leaf_width=0.08),
    Species("Primella", "yellow cream pink magenta", width=0.44, widest=0.72, tip=0.35, cup=0.05,
            notch=0.2, throat=0.3, blossoms=3, disc=0.08, leaf_width=0.4, leaf_tip=0.5),
    Species("Clematea", "purple violet white lilac magenta", petals=7, width=0.26, widest=0.5,
            tip=0.95, cup=0.1, ruffle=0.03, stamens=24, filament=0.35),
    Species("Anemola", "white blue red pink", petals=9, width=0.26, widest=0.6, tip=0.5, cup=0.25,
            throat=0.3, disc=0.18, stamens=34, filament=0.35),
    Species("Cosmella", "pink white magenta orange", petals=8, width=0.31, widest=0.75, tip=0.3,
            cup=0.1, fringe=0.06, disc=0.18, leaf_width=0.06),
    Species("Dahlina", "red orange magenta yellow crimson", petals=13, layers=4, width=0.15,
            widest=0.6, tip=0.7, cup=0.15, curl=0.2, trough=0.6, disc=0.12, leaf_width=0.35),
    Species("Asterina", "lilac violet pink white sky", petals=30, width=0.055, widest=0.6, tip=0.6,
            cup=0.1, disc=0.24, leaf_width=0.15),
    Species("Hibisca", "red coral yellow white pink", width=0.52, widest=0.7, tip=0.35, cup=0.3,
            curl=-0.25, ruffle=0.06, throat=0.35, veins=0.4, disc=0.08, stamens=16, filament=0.7,
            leaf_width=0.4),
    Species("Phloxia", "pink magenta white lilac", width=0.4, widest=0.75, tip=0.4, cup=0.0,
            throat=0.22, blossoms=6, disc=0.05, leaf_width=0.2),
    Species("Magnola", "white blush pink cream", petals=8, layers=2, width=0.28, widest=0.6,
            tip=0.6, cup=0.6, curl=0.2, trough=0.4, disc=0.15, stamens=18, filament=0.2,
            leaf_width=0.35, leaf_tip=0.6),
    Species("Gentara", "blue violet sky white", width=0.4, widest=0.45, tip=1.2, cup=0.55,
            curl=-0.35, throat=0.35, veins=0.4, disc=0.05, stamens=5, filament=0.3),
    Species("Narcella", "yellow white cream", petals=6, width=0.3, widest=0.5, tip=0.7, cup=0.05,
            corona=0.45, disc=0.06, stamens=6, leaf_width=0.07),
)
# fmt: on


@cache
def species(seed: int, number: int) -> Species:
    """Species `number` of a seed. Its genus is `number % 20`, so each half has all genera."""
    rank, genus = divmod(number, len(GENERA))
    typical = GENERA[genus]
    rng = default_rng(SeedSequence(seed, spawn_key=(number,)))
    named = replace(typical, name=f"{typical.name} {epithet(rank, genus)}")
    return coloured(varied(named, rng), rng)


def epithet(rank: int, genus: int) -> str:
    """The second name, different from those of the genus and of neighbouring numbers."""
    turn, place = divmod(rank, len(EPITHETS))
    word = EPITHETS[(place + 7 * genus) % len(EPITHETS)]
    return word if turn == 0 else f"{word} {turn + 1}"


def varied(typical: Species, rng: Generator) -> Species:
    """A random variation of the typical species of a genus."""
    scaled = ("width", "tip", "disc", "filament", "leaf_width", "throat", "corona")
    return replace(
        typical,
        **{trait: getattr(typical, trait) * float(rng.uniform(0.7, 1.35)) for trait in scaled},
        petals=max(3, typical.petals + int(rng.integers(-1, 2)) * (1 + typical.petals // 8)),
        layers=max(1, typical.layers + int(rng.integers(-1, 2)) * (typical.layers > 1)),
        cup=typical.cup + float(rng.uniform(-0.15, 0.2)),
        curl=typical.curl + float(rng.uniform(-0.2, 0.2)),
        notch=typical.notch + float(rng.choice((0.0, 0.0, 0.12))),
        ruffle=typical.ruffle + float(rng.choice((0.0, 0.0, 0.05))),
        margin=float(rng.choice((0.0, 0.0, 0.0, 0.2))),
        veins=typical.veins + float(rng.choice((0.0, 0.0, 0.6))),
        spots=typical.spots + int(rng.choice((0, 0, 0, 14))),
    )


def coloured(plain: Species, rng: Generator) -> Species:
    """The species with random colours of its genus."""
    pigments = plain.pigments.split()
    colour = str(rng.choice(pigments))
    throats = (colour, "white", "yellow", "lime", "crimson", "purple")
    return replace(
        plain,
        colour=colour,
        tip_colour=str(rng.choice((colour, colour, *pigments, "white"))),
        throat_colour=str(rng.choice(throats)),
        mark_colour=str(rng.choice(("crimson", "purple", "maroon", "white", "gold"))),
        disc_colour=str(rng.choice(("gold", "yellow", "lime", "brown", "maroon", "orange"))),
        leaf_colour=str(rng.choice(("grass", "grass", "olive", "sage", "spruce"))),
    )


def leaf(kind: Species) -> Species:
    """A leaf, described as a green petal with pale veins."""
    return Species(
        name=kind.name,
        pigments=kind.leaf_colour,
        width=kind.leaf_width,
        widest=0.4,
        tip=kind.leaf_tip,
        curl=-0.25,
        trough=0.5,
        ruffle=0.02,
        throat=0.05,
        veins=0.35,
        colour=kind.leaf_colour,
        tip_colour=kind.leaf_colour,
        throat_colour="lime",
        mark_colour="lime",
    )
