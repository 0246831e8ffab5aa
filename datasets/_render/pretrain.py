"""Image-caption pairs for pre-training the demo backbone: flat icons, prints and swatches, not the suite's photographs.

``scene(seed, k)`` draws the k-th picture and says what is on it; ``caption(scene, rng)`` words it, differently at each
call. Objects have other outlines than in Demo6, digits are printed, colours and grounds come from other palettes, and
no caption uses a sentence of the suite's templates.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets._render.canvas import SIZE, Placement, clouds, draw, hsv, keyed_rng, paint, pick, ramp, rotation, to_bytes
from datasets._render.fields import ARRANGEMENT_COUNTS, ARRANGEMENTS, PATTERNS, arrangement, pattern, scatter
from datasets._render.outlines import OBJECTS, SIMPLE, box

Rng = np.random.Generator
Words = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Scene:
    """What a picture shows; captions are made of these words. An empty value is not mentioned."""

    kind: str  # "object", "group", "swatch" or "print"
    noun: str = ""
    colour: str = ""
    second: str = ""  # second colour
    pattern: str = ""
    layout: str = ""
    ground: str = ""
    count: int = 1


# colour -> (hue, saturation, value) ranges
_INKS = {
    "red": ((344, 370), (0.75, 1.0), (0.6, 1.0)),
    "orange": ((20, 38), (0.85, 1.0), (0.85, 1.0)),
    "yellow": ((47, 62), (0.65, 1.0), (0.85, 1.0)),
    "green": ((80, 160), (0.4, 1.0), (0.3, 0.9)),
    "blue": ((195, 248), (0.5, 1.0), (0.4, 1.0)),
    "purple": ((262, 300), (0.4, 1.0), (0.35, 0.8)),
    "pink": ((312, 352), (0.22, 0.6), (0.9, 1.0)),
    "brown": ((12, 34), (0.5, 0.9), (0.25, 0.55)),
    "black": ((0, 360), (0.0, 0.2), (0.0, 0.15)),
    "white": ((0, 360), (0.0, 0.05), (0.92, 1.0)),
    "grey": ((0, 360), (0.0, 0.06), (0.4, 0.65)),
}
_GROUNDS = {
    "pale": ((0, 360), (0.0, 0.15), (0.8, 1.0)),
    "dark": ((0, 360), (0.0, 0.4), (0.05, 0.3)),
    "grassy": ((85, 130), (0.3, 0.6), (0.4, 0.7)),
    "sandy": ((35, 48), (0.2, 0.45), (0.7, 0.9)),
    "sky": ((190, 215), (0.2, 0.5), (0.8, 1.0)),
    "stone": ((0, 360), (0.0, 0.12), (0.35, 0.7)),
}

_COLOUR_WORDS: Words = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "amber", "tangerine"),
    "yellow": ("yellow", "yellow", "golden", "lemon"),
    "green": ("green", "green", "emerald", "mossy"),
    "blue": ("blue", "blue", "azure", "cobalt"),
    "purple": ("purple", "purple", "violet", "plum"),
    "pink": ("pink", "pink", "rosy", "blush"),
    "brown": ("brown", "brown", "chestnut", "coffee coloured"),
    "black": ("black", "jet black"),
    "white": ("white", "snowy"),
    "grey": ("grey", "gray", "ashen"),
}
_NOUN_WORDS: Words = {
    "house": ("house", "hut", "cottage"),
    "tree": ("tree", "tree", "leafy tree"),
    "boat": ("boat", "ship", "vessel"),
    "car": ("car", "automobile", "motor car"),
    "fish": ("fish", "fish", "swimming fish"),
    "cup": ("cup", "mug", "teacup"),
    "umbrella": ("umbrella", "parasol"),
    "key": ("key", "door key"),
    "disc": ("disc", "dot", "coin"),
    "square": ("square", "tile", "block"),
    "triangle": ("triangle", "wedge"),
    "diamond": ("diamond", "lozenge"),
    "star": ("star", "star"),
    "cross": ("cross", "plus sign"),
    "heart": ("heart", "heart"),
    "hoop": ("hoop", "doughnut"),
    "moon": ("moon", "crescent"),
    "hexagon": ("hexagon", "nut"),
}
_PATTERN_WORDS: Words = {
    "plain": ("plain", "unpatterned", "blank"),
    "striped": ("striped", "banded", "with stripes"),
    "dotted": ("dotted", "spotted", "with polka dots"),
    "checked": ("checked", "chequered", "like a chess board"),
    "zigzag": ("zigzag", "chevron", "with zigzags"),
    "wavy": ("wavy", "rippled", "with waves"),
    "gridded": ("gridded", "latticed", "with a net of lines"),
    "speckled": ("speckled", "flecked", "with speckles"),
}
_LAYOUT_WORDS: Words = {
    "row": ("in a row", "in a horizontal row", "side by side"),
    "column": ("in a column", "in a vertical column", "one above another"),
    "diagonal": ("in a diagonal line", "along a diagonal", "on a slope"),
    "ring": ("in a ring", "in a round ring", "around a circle"),
    "cluster": ("in a tight cluster", "in a heap", "bunched together"),
    "grid": ("in a square grid", "in a grid", "in rows and columns"),
    "triangle": ("in a triangle", "in a pyramid", "stacked as a triangle"),
    "scatter": ("in a loose scatter", "scattered about", "strewn around"),
}
_GROUND_WORDS: Words = {
    "pale": ("on pale paper", "on a light ground", "against a bright wall"),
    "dark": ("on a dark ground", "at night", "against a dark wall"),
    "grassy": ("on a grassy ground", "on a lawn", "in a meadow"),
    "sandy": ("on sand", "on a sandy ground", "at the beach"),
    "sky": ("against the sky", "on light blue"),
    "stone": ("on stone", "on a dull ground", "on concrete"),
}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_COUNT_WORDS: Words = {str(n): (word, word, str(n)) for n, word in enumerate(_NUMBERS)}
_COUNT_WORDS |= {
    "1": ("one", "a single", "just one"),
    "2": ("two", "two", "a pair of"),
    "6": ("six", "six", "half a dozen"),
}
_OPENERS = (
    "a drawing of",
    "an image of",
    "a picture of",
    "a print of",
    "an icon of",
    "here is",
    "we see",
    "this shows",
    "look at",
)
_TAILS = ("seen from above", "in flat colours", "as a simple icon", "on a card", "from a book", "neatly drawn")
_PREAMBLES = (
    "out of a large box of many small cards someone took this one and it shows",
    "the child turned the page of the old book and pointed at",
    "on the next page of the catalogue there is",
    "if you look at it for a while you can see",
    "what the machine drew for us today is simply",
)
_CLOTHS = ("cloth", "paper", "fabric", "wallpaper", "surface", "tile", "texture")
_SIGNS = ("numeral", "number", "digit", "figure", "character")


def scene(seed: int, k: int) -> tuple[np.ndarray, Scene]:
    """The k-th picture (64, 64, 3) uint8 of the world ``seed``, and what it shows."""
    rng = keyed_rng("pretrain", seed, k)
    image, shown = _KINDS[k % len(_KINDS)](rng)
    return to_bytes(image, rng, rng.uniform(0, 0.05), rng.uniform(0, 1.3)), shown


def _ink(colour: str, rng: Rng) -> np.ndarray:
    return hsv(*(rng.uniform(*limits) for limits in _INKS[colour]))


def _apart(first: np.ndarray, second: np.ndarray) -> bool:
    return float(np.abs(first - second).max()) > 0.25


def _ground(rng: Rng, ink: np.ndarray) -> tuple[np.ndarray, str]:
    """A flat, sloping or cloudy ground (64, 64, 3) that ``ink`` can be told from, and its name."""
    while True:
        name = pick(rng, _GROUNDS)
        colour = hsv(*(rng.uniform(*limits) for limits in _GROUNDS[name]))
        if _apart(colour, ink):
            break
    flat: np.ndarray = np.broadcast_to(colour, (SIZE, SIZE, 3)).astype(np.float32)
    kind = rng.integers(3)
    if kind == 0:
        flat = flat * (1 + rng.uniform(0, 0.2) * ramp(rng.uniform(0, 360)))[..., None]
    elif kind == 1:
        flat = flat + rng.uniform(0, 0.15) * (clouds(rng, int(rng.integers(2, 12))) - 0.5)
    return flat.astype(np.float32), name


def _stamp(image: np.ndarray, noun: str, place: Placement, ink: np.ndarray, rng: Rng) -> None:
    """Print one thing flatly, sometimes with a dark rim."""
    parts = OBJECTS[noun](rng, False) if noun in OBJECTS else SIMPLE[noun]
    body, detail = draw(parts, place)
    if rng.random() < 0.3:
        rim, _ = draw(parts, place._replace(radius=place.radius * 1.12))
        paint(image, rim, np.full(3, rng.uniform(0, 0.2), np.float32))
    paint(image, body, ink)
    paint(image, detail, ink * 0.6)


_GROUP_NOUNS = ("disc", "square", "triangle", "diamond", "star", "cross", "heart", "hexagon")
_SINGLE_NOUNS = (*_GROUP_NOUNS, "hoop", "moon")


def _object_scene(rng: Rng) -> tuple[np.ndarray, Scene]:
    noun = pick(rng, OBJECTS if rng.random() < 0.8 else _SINGLE_NOUNS)
    colour = pick(rng, _INKS)
    ink = _ink(colour, rng)
    image, ground = _ground(rng, ink)
    place = Placement(tuple(rng.uniform(24, 40, 2)), rng.uniform(11, 26), rng.normal(0, 20), rng.random() < 0.5)
    _stamp(image, noun, place, ink, rng)
    return image, Scene("object", noun, colour, ground=ground)


def _count_scene(rng: Rng) -> tuple[np.ndarray, Scene]:
    count = int(rng.integers(1, 8))
    places = scatter(count, rng, 0.55, 0.72)
    return _group(rng, places, rng.uniform(4.5, 8), Scene("group", layout="", count=count))


def _layout_scene(rng: Rng) -> tuple[np.ndarray, Scene]:
    layout = pick(rng, ARRANGEMENTS)
    count = int(pick(rng, ARRANGEMENT_COUNTS.get(layout, (3, 4, 5))))
    places = arrangement(layout, count, rng, 0.02)
    return _group(rng, places, rng.uniform(3.2, 5.5), Scene("group", layout=layout, count=count))


def _group(rng: Rng, places: np.ndarray, radius: float, shown: Scene) -> tuple[np.ndarray, Scene]:
    noun, colour = pick(rng, _GROUP_NOUNS), pick(rng, _INKS)
    ink = _ink(colour, rng)
    image, ground = _ground(rng, ink)
    angle = rng.uniform(0, 360) if rng.random() < 0.5 else 0.0
    for x, y in places * 30 + 32 + rng.uniform(-3, 3, 2):
        _stamp(image, noun, Placement((x, y), radius * rng.uniform(0.85, 1.15), angle), ink, rng)
    return image, replace(shown, noun=noun, colour=colour, ground=ground)


def _swatch_scene(rng: Rng) -> tuple[np.ndarray, Scene]:
    kind = pick(rng, PATTERNS)
    while True:
        first, second = pick(rng, _INKS), pick(rng, _INKS)
        inks = _ink(first, rng), _ink(second, rng)
        if first != second and _apart(*inks):
            break
    field = pattern(kind, rng, rng.uniform(8, 20), rng.uniform(0, 360))[..., None]
    image = (inks[0] + field * (inks[1] - inks[0])).astype(np.float32)
    if rng.random() < 0.4:
        edge = rng.uniform(0.65, 0.9)
        mask, _ = draw([box(-edge, -edge, edge, edge)], Placement((32, 32), 32, rng.normal(0, 8)))
        paint(image, 1 - mask, _ink(pick(rng, ("white", "grey", "black")), rng))
    return image, Scene("swatch", colour=first, second="" if kind == "plain" else second, pattern=kind)


def _print_scene(rng: Rng) -> tuple[np.ndarray, Scene]:
    digit, colour = int(rng.integers(10)), pick(rng, ("black", "black", *_INKS))
    ink = _ink(colour, rng)
    image, ground = _ground(rng, ink)
    paint(image, _glyph(str(digit), rng), ink)
    if rng.random() < 0.5:  # a coarse print: few dots to a side
        side = int(rng.integers(8, 17))
        whole = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
        small = whole.resize((side, side), Image.Resampling.BOX)
        image = np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 255
    return image, Scene("print", noun=_NUMBERS[digit], colour=colour, ground=ground, count=digit)


def _glyph(character: str, rng: Rng) -> np.ndarray:
    """Mask (64, 64) of a printed character, in thin to bold type, stretched and set askew."""
    font, side = ImageFont.load_default(size=72), 128
    page = Image.new("L", (side, side))
    bold = int(rng.integers(0, 6))
    ImageDraw.Draw(page).text((side / 2, side / 2), character, 255, font, anchor="mm", stroke_width=bold)
    box = page.getbbox()
    assert box is not None, f"the font draws nothing for {character!r}"
    left, top, right, bottom = box
    high = rng.uniform(36, 62)
    wide = high * rng.uniform(0.45, 0.95)
    x, y = 32 + rng.uniform(-5, 5), 32 + rng.uniform(-3, 3)
    corners = np.array([(-wide, -high), (wide, -high), (wide, high), (-wide, high)]) / 2
    lean = np.array([[1, 0], [-rng.normal(0, 0.22), 1]])
    corners = corners @ lean @ rotation(rng.normal(0, 7))
    corners += np.array([x, y]) + rng.normal(0, 2, (4, 2))
    source = [(left, top), (right, top), (right, bottom), (left, bottom)]
    warp = _perspective(corners, source)
    mask = page.transform((SIZE, SIZE), Image.Transform.PERSPECTIVE, warp, Image.Resampling.BICUBIC)
    return np.asarray(mask, np.float32) / 255


def _perspective(corners: np.ndarray, source: Sequence[tuple[float, float]]) -> list[float]:
    """Coefficients that map output ``corners`` (4, 2) to the points ``source`` of the input image."""
    rows = []
    for (x, y), (u, v) in zip(corners, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.linalg.solve(np.array(rows), np.array(source, float).ravel()).tolist()


_KINDS: tuple[Callable[[Rng], tuple[np.ndarray, Scene]], ...] = (
    _object_scene,
    _layout_scene,
    _swatch_scene,
    _count_scene,
    _print_scene,
    _object_scene,
    _layout_scene,
    _count_scene,
    _print_scene,
    _swatch_scene,
)


def caption(shown: Scene, rng: random.Random) -> str:
    """One of the many ways to say what ``shown`` is: from a bare word to a sentence, in changing order."""
    if rng.random() < 0.12:
        return _bare(shown, rng)
    text = _SENTENCES[shown.kind](shown, rng)
    if rng.random() < 0.5:
        text = f"{rng.choice(_OPENERS)} {text}"
    if rng.random() < 0.15:
        text = f"{text}, {rng.choice(_TAILS)}"
    if rng.random() < 0.1:
        text = f"{rng.choice(_PREAMBLES)} {text}"
    return text + "." if rng.random() < 0.6 else text


def _bare(shown: Scene, rng: random.Random) -> str:
    """A single word or phrase for one thing that is true of the picture."""
    if shown.kind == "object":
        table, key = rng.choice(((_NOUN_WORDS, shown.noun), (_COLOUR_WORDS, shown.colour)))
    elif shown.kind == "swatch":
        table, key = _PATTERN_WORDS, shown.pattern
    elif shown.layout:
        table, key = _LAYOUT_WORDS, shown.layout
    else:
        table, key = _COUNT_WORDS, str(shown.count)
    return rng.choice(table[key]) + rng.choice(("", "."))


def _maybe(text: str, rng: random.Random, chance: float) -> str:
    return text if rng.random() < chance else ""


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _an(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def _object_words(shown: Scene, rng: random.Random) -> str:
    colour, noun = rng.choice(_COLOUR_WORDS[shown.colour]), rng.choice(_NOUN_WORDS[shown.noun])
    ground = _maybe(rng.choice(_GROUND_WORDS[shown.ground]), rng, 0.35)
    form = rng.random()
    if form < 0.6:
        return _joined(_an(_joined(_maybe(colour, rng, 0.75), noun)), ground)
    if form < 0.75:
        return _joined(_an(noun), "that is", colour, ground)
    if form < 0.85:
        return _joined("something", colour, ground)
    return _joined(ground, _maybe("there is", rng, 0.5), _an(_joined(colour, noun)))


def _group_words(shown: Scene, rng: random.Random) -> str:
    count = rng.choice(_COUNT_WORDS[str(shown.count)])
    noun = rng.choice((*_NOUN_WORDS[shown.noun], "thing", "shape", "mark")) + ("s" if shown.count > 1 else "")
    things = _joined(_maybe(rng.choice(_COLOUR_WORDS[shown.colour]), rng, 0.6), noun)
    ground = _maybe(rng.choice(_GROUND_WORDS[shown.ground]), rng, 0.3)
    if not shown.layout:
        return _joined(count, things, ground)
    layout = rng.choice(_LAYOUT_WORDS[shown.layout])
    if rng.random() < 0.3:
        return _joined(f"{layout},", _maybe(count, rng, 0.5), things, ground)
    return _joined(_maybe(count, rng, 0.5), things, _maybe("placed", rng, 0.3), layout, ground)


def _swatch_words(shown: Scene, rng: random.Random) -> str:
    kind, cloth = rng.choice(_PATTERN_WORDS[shown.pattern]), rng.choice(_CLOTHS)
    colours = _joined("in", rng.choice(_COLOUR_WORDS[shown.colour]))
    if shown.second:
        colours = _joined(colours, "and", rng.choice(_COLOUR_WORDS[shown.second]))
    colours = _maybe(colours, rng, 0.5)
    if kind.startswith(("with", "like")):
        return _joined(cloth, kind, colours)
    if rng.random() < 0.3:
        return _joined(_maybe(cloth, rng, 0.6), "with", _an(kind), "pattern", colours)
    return _joined(_an(kind) if rng.random() < 0.7 else kind, cloth, colours)


def _print_words(shown: Scene, rng: random.Random) -> str:
    value = shown.noun if rng.random() < 0.65 else str(shown.count)
    colour = _maybe(rng.choice(_COLOUR_WORDS[shown.colour]), rng, 0.3)
    how = _maybe(rng.choice(("printed", "typed", "bold", "large")), rng, 0.6)
    ground = _maybe(rng.choice(_GROUND_WORDS[shown.ground]), rng, 0.3)
    if rng.random() < 0.75:
        return _joined("the", colour, how, rng.choice(_SIGNS), value, ground)
    return _joined(_an(_joined(colour, how, value)), ground)


_SENTENCES: dict[str, Callable[[Scene, random.Random], str]] = {
    "object": _object_words,
    "group": _group_words,
    "swatch": _swatch_words,
    "print": _print_words,
}
