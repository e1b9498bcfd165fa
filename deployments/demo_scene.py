"""The drawing of a damaged car for the demo's photos."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]
Colour = tuple[int, int, int]

_PAINTS: tuple[Colour, ...] = (
    (178, 34, 34), (35, 70, 150), (215, 205, 180), (40, 110, 60), (205, 160, 40),
    (115, 40, 90), (60, 130, 170), (200, 95, 35),
)  # fmt: skip
_METAL: Colour = (175, 178, 184)
_SOOT: Colour = (48, 46, 46)
_SKIES: tuple[Colour, ...] = ((150, 185, 225), (190, 195, 200), (225, 190, 150), (110, 130, 160), (205, 220, 235))
_GROUNDS: tuple[Colour, ...] = ((95, 95, 98), (130, 122, 110), (85, 105, 70), (150, 150, 148), (110, 90, 75))


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, round(part * factor))) for part in colour)
    return red, green, blue


class Scene:
    """A car in a place with some light. Coordinates are metres: x from the front bumper, y from the ground."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_
        self.width = random_.randint(320, 640)
        self.height = round(self.width * random_.uniform(0.7, 0.76))
        self.scale = self.width / random_.uniform(4.9, 5.5)
        self.mirrored = random_.random() < 0.5
        self.left = (self.width / self.scale - 4.4) / 2 + random_.uniform(-0.2, 0.2)
        self.ground = self.height * random_.uniform(0.74, 0.9)
        self.slope = random_.uniform(-0.04, 0.04)
        self.paint = random_.choice(_PAINTS)
        self.tall = random_.choice([0.0, 0.0, 0.12, 0.3])
        self.depth = (-random_.uniform(0.2, 0.5), random_.uniform(0.08, 0.2)) if random_.random() < 0.6 else (0.0, 0.0)
        self.rear_drop = random_.choice([0.0, 0.35])
        self.image = Image.new("RGB", (self.width, self.height))
        self.pen = ImageDraw.Draw(self.image)

    def draw(self, label: str) -> Image.Image:
        self._background()
        self._car()
        {"minor": self._minor, "moderate": self._moderate, "major": self._major}[label]()
        return self._light()

    def at(self, x: float, y: float) -> Point:
        """Convert metres to pixels."""
        across = (self.left + x) * self.scale
        return (self.width - across if self.mirrored else across), self.ground - (y + self.slope * (x - 2.2)) * self.scale

    def shape(self, points: Sequence[Point], colour: Colour, outline: Colour | None = None) -> None:
        self.pen.polygon([self.at(*point) for point in points], fill=colour, outline=outline)

    def line(self, points: Sequence[Point], colour: Colour, metres: float) -> None:
        self.pen.line([self.at(*point) for point in points], fill=colour, width=max(1, round(metres * self.scale)), joint="curve")

    def disc(self, centre: Point, radius: Point, colour: Colour) -> None:
        (x, y), (across, up) = self.at(*centre), (radius[0] * self.scale, radius[1] * self.scale)
        self.pen.ellipse((x - across, y - up, x + across, y + up), fill=colour)

    def jagged(self, centre: Point, radius: Point, teeth: int = 14) -> list[Point]:
        """An irregular outline around a point."""
        turns = np.linspace(0, 2 * np.pi, teeth, endpoint=False)
        reach = [self.random.uniform(0.45, 1.0) for _ in turns]
        return [
            (centre[0] + radius[0] * r * np.cos(turn), centre[1] + radius[1] * r * np.sin(turn))
            for turn, r in zip(turns, reach, strict=True)
        ]

    def _background(self) -> None:
        random_ = self.random
        horizon = self.ground - random_.uniform(0.5, 1.4) * self.scale
        self.pen.rectangle((0, 0, self.width, horizon), fill=random_.choice(_SKIES))
        self.pen.rectangle((0, horizon, self.width, self.height), fill=random_.choice(_GROUNDS))
        for _ in range(random_.randint(1, 5)):
            left, wide = random_.uniform(-0.2, 0.9) * self.width, random_.uniform(0.12, 0.5) * self.width
            top = horizon - random_.uniform(0.1, 0.75) * self.height
            colour = _shade(random_.choice(_GROUNDS + _SKIES + _PAINTS), random_.uniform(0.5, 1.0))
            if random_.random() < 0.6:
                self.pen.rectangle((left, top, left + wide, horizon), fill=colour)
            else:
                self.pen.ellipse((left, top, left + wide, horizon + 5), fill=_shade((60, 95, 50), random_.uniform(0.5, 1.2)))
        self.disc((2.2, 0.02), (2.5, 0.16), _shade(random_.choice(_GROUNDS), 0.4))

    def _car(self) -> None:
        tall, drop, paint = self.tall, self.rear_drop, self.paint
        roof = 1.42 + tall
        body = [
            (0.06, 0.3), (0.0, 0.55), (0.05, 0.78), (0.3, 0.9), (1.2, 1.0), (1.85, roof - 0.04), (2.1, roof), (3.0, roof),
            (3.3 + drop, roof - 0.1), (3.75 + drop, 1.02), (4.28, 0.95), (4.4, 0.7), (4.36, 0.3),
        ]  # fmt: skip
        glass = [(1.36, 1.02), (1.95, roof - 0.09), (3.0, roof - 0.09), (3.2 + drop, roof - 0.16), (3.5 + drop, 1.04)]
        dark, pane = (22, 22, 25), _shade((70, 85, 100), self.random.uniform(0.6, 1.3))
        far = [(x + self.depth[0], y + self.depth[1]) for x, y in body]
        if self.depth[0]:
            for first, colour in (
                (0, _shade(paint, 0.6)),
                (1, _shade(paint, 0.65)),
                (2, _shade(paint, 0.75)),
                (3, _shade(paint, 1.25)),
                (4, pane),
                (6, _shade(paint, 1.3)),
            ):
                self.shape([body[first], body[first + 1], far[first + 1], far[first]], colour)
            self.shape(
                [(self.depth[0] * 0.25, 0.5), (self.depth[0] * 0.75, 0.56), (self.depth[0] * 0.75, 0.68), (self.depth[0] * 0.25, 0.62)],
                dark,
            )
            self.disc((self.depth[0] * 0.85, 0.74 + self.depth[1]), (0.07, 0.07), (250, 248, 225))
        self.shape(body, paint, _shade(paint, 0.5))
        self.shape([(0.02, 0.45), (4.38, 0.45), (4.36, 0.3), (0.06, 0.3)], _shade(paint, 0.55))
        self.shape([(0.3, 0.89), (1.2, 0.99), (4.2, 0.94), (4.2, 0.88), (1.2, 0.92)], _shade(paint, 1.3))
        self.shape(glass, pane, dark)
        self.shape([(1.6, 1.06), (1.98, roof - 0.12), (2.15, roof - 0.12), (1.8, 1.06)], _shade(pane, 1.35))
        for x in (2.42, 3.28):
            self.line([(x, roof - 0.08), (x, 0.46)], _shade(paint, 0.6), 0.03)
        self.line([(1.45, 1.0), (1.42, 0.46)], _shade(paint, 0.6), 0.03)
        for x in (2.15, 3.0):
            self.line([(x, 0.86), (x + 0.16, 0.86)], _shade(paint, 0.4), 0.04)
        self.shape([(0.03, 0.66), (0.06, 0.79), (0.36, 0.86), (0.33, 0.72)], (248, 246, 220), dark)
        self.shape([(4.16, 0.74), (4.16, 0.9), (4.3, 0.9), (4.39, 0.74)], (200, 20, 25), dark)
        for x in (0.85, 3.5):
            self.disc((x, 0.36), (0.42, 0.42), dark)
            self.disc((x, 0.33), (0.33, 0.33), (35, 35, 38))
            self.disc((x, 0.33), (0.2, 0.2), (165, 168, 172))
            self.disc((x, 0.33), (0.06, 0.06), (60, 60, 64))

    def _scratches(self, count: int) -> None:
        for _ in range(count):
            x, y = self.random.uniform(0.9, 3.3), self.random.uniform(0.55, 0.85)
            long, rise = self.random.uniform(0.4, 0.9), self.random.uniform(-0.1, 0.12)
            for lift, colour in ((0.0, (235, 235, 235)), (-0.02, (60, 58, 56))):
                self.line([(x, y + lift), (x + long / 2, y + rise + lift), (x + long, y + rise / 2 + lift)], colour, 0.014)

    def _dent(self, centre: Point, radius: float) -> None:
        for step in range(6):
            part = 1 - step / 6
            self.disc(
                (centre[0] + 0.12 * radius * step / 6, centre[1] + 0.2 * radius * step / 6),
                (radius * part, 0.62 * radius * part),
                _shade(self.paint, 0.75 - 0.1 * step),
            )
        self.disc((centre[0] + 0.3 * radius, centre[1] - 0.34 * radius), (0.4 * radius, 0.1 * radius), _shade(self.paint, 1.5))

    def _shards(self, x: float, count: int, reach: float) -> None:
        for _ in range(count):
            centre = (x + self.random.uniform(-reach, reach), self.random.uniform(-0.2, 0.04))
            self.shape(self.jagged(centre, (0.07, 0.04), 5), self.random.choice([(235, 238, 240), (40, 40, 42), self.paint]))

    def _crumpled(self, corner: Point, opposite: Point, cells: tuple[int, int], colours: Sequence[Colour]) -> None:
        """Folded sheet metal: facets of random brightness between two corners, many with a dark outline."""
        across, up = (np.linspace(corner[axis], opposite[axis], cells[axis] + 1) for axis in (0, 1))
        slack = [0.42 * abs(opposite[axis] - corner[axis]) / cells[axis] for axis in (0, 1)]
        folds = [[(x + self.random.uniform(-1, 1) * slack[0], y + self.random.uniform(-1, 1) * slack[1]) for y in up] for x in across]
        for column, beside in itertools.pairwise(folds):
            for (low, high), (low_beside, high_beside) in zip(itertools.pairwise(column), itertools.pairwise(beside), strict=True):
                for facet in ((low, high, low_beside), (high, high_beside, low_beside)):
                    self.shape(facet, _shade(self.random.choice(colours), self.random.uniform(0.35, 1.3)))
                    if self.random.random() < 0.6:
                        self.line(facet, (14, 14, 16), 0.035)

    def _shattered(self, panes: Sequence[Sequence[Point]]) -> None:
        """Broken laminated glass: white, with cracks."""
        for pane in panes:
            self.shape(pane, (232, 238, 240), (20, 20, 22))
            left, right = min(x for x, _ in pane), max(x for x, _ in pane)
            low, high = min(y for _, y in pane), max(y for _, y in pane)
            struck = (self.random.uniform(left, right), self.random.uniform(low, high))
            for _ in range(12):
                self.line([struck, (self.random.uniform(left, right), self.random.uniform(low, high))], (95, 105, 112), 0.02)

    def _minor(self) -> None:
        if self.random.random() < 0.6:
            self._scratches(self.random.randint(2, 4))
        else:
            self._dent((self.random.uniform(1.5, 3.0), self.random.uniform(0.6, 0.8)), self.random.uniform(0.09, 0.13))

    def _moderate(self) -> None:
        at_front = self.random.random() < 0.5
        left = self.random.uniform(1.2, 1.4)
        self._crumpled(
            (left, 0.3),
            (left + self.random.uniform(1.55, 1.8), self.random.uniform(0.96, 1.04)),
            (8, 4),
            [_METAL, _METAL, _METAL, self.paint],
        )
        lamp = (0.2, 0.77) if at_front else (4.25, 0.82)
        self.shape(self.jagged(lamp, (0.26, 0.18), 10), (25, 25, 28))
        self._shards(lamp[0], 5, 0.4)

    def _major(self) -> None:
        roof = 1.42 + self.tall
        end, inward = (0.0, 1) if self.random.random() < 0.6 else (4.4, -1)
        # Fluid below the car; the wheel is drawn last, in front of it.
        self.disc((end + inward * 0.8, -0.1), (1.25, 0.13), (18, 16, 20))
        self._shattered(
            [
                [(1.36, 1.02), (1.95, roof - 0.09), (2.38, roof - 0.09), (2.38, 1.03)],
                [(2.46, 1.03), (2.46, roof - 0.09), (3.0, roof - 0.09), (3.2 + self.rear_drop, roof - 0.16), (3.5 + self.rear_drop, 1.04)],
            ]
        )
        deep = self.random.uniform(1.5, 1.9)
        self.shape(self.jagged((end + inward * 0.55, 0.6), (1.0, 0.62), 18), (20, 19, 20))
        self._crumpled((end - inward * 0.12, 0.16), (end + inward * deep, 1.0), (9, 5), [_SOOT, _SOOT, _METAL, self.paint])
        hinge = end + inward * 1.35
        self.shape(
            [(hinge, 0.98), (hinge - inward * 0.75, 1.62), (hinge - inward * 0.95, 1.5), (hinge - inward * 0.35, 0.96)],
            _shade(self.paint, 0.75),
            (15, 15, 15),
        )
        for _ in range(3):
            hole = (end + inward * self.random.uniform(0.1, deep - 0.3), self.random.uniform(0.35, 0.85))
            self.shape(self.jagged(hole, (0.28, 0.2), 9), (12, 12, 14))
        wheel = end + inward * self.random.uniform(-0.1, 0.5)
        for radius, colour in ((0.36, (24, 24, 26)), (0.2, (165, 168, 172)), (0.07, (50, 50, 54))):
            self.disc((wheel, -0.06), (radius, 0.55 * radius), colour)
        self._shards(end + inward * 0.6, 30, 1.3)

    def _light(self) -> Image.Image:
        """Add uneven light, blur and camera noise."""
        random_ = np.random.default_rng(self.random.getrandbits(64))
        field = Image.fromarray(random_.uniform(0.85, 1.15, (4, 5)).astype(np.float32))
        shade = np.asarray(field.resize(self.image.size, Image.Resampling.BICUBIC)) * self.random.uniform(0.9, 1.05)
        soft = self.image.filter(ImageFilter.GaussianBlur(self.random.uniform(0.3, 0.8)))
        noise = random_.standard_normal((self.height, self.width, 1), np.float32) * self.random.uniform(1, 3)
        return Image.fromarray((np.asarray(soft) * shade[:, :, None] + noise).clip(0, 255).astype(np.uint8))
