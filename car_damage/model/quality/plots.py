"""Plots of training photos, a training run and a decision, as PNG files: class balance, training curve, confusion
matrices, the worst mistakes, labels that look wrong, and how far probabilities can be believed.

Uses matplotlib's object-oriented interface on its Agg canvas, and Pillow: no window and no process-wide state, so threads can draw at the
same time. Colour-blind people can distinguish the colours, and no plot depends on colour alone.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.calibration import BINS, Reliability
from car_damage.model.quality.evaluation import Evaluation, most_certain_mistakes
from car_damage.photo.limits import SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.ImageFont import FreeTypeFont

BLUE, LIGHT, ORANGE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#666666"
"""Colours of the Okabe-Ito palette."""
MISTAKES = 12
"""Photos in the plot of mistakes, at most."""
_DPI = 120
_NAME_LENGTH = 30
"""Characters of a file's name under a photo."""
_TILE, _WORDS, _TITLE, _GAP = (248, 308), 50, 60, 7
"""Of a contact sheet, in pixels: width and height of a tile, height of the words above its photo, of the sheet's title, and between photo
and words."""
_FEWEST = 3
"""Columns that a sheet has at least: the title needs their width."""
_COMPRESSION = 3
"""Of PNG files, for photos: 6, the default, takes thrice as long."""


@dataclass(frozen=True)
class Tile:
    """A photo of a contact sheet."""

    pixels: npt.NDArray[np.uint8]
    """(224, 224, 3)"""
    words: str
    """Above it."""
    path: str
    """Of its file, whose name is below."""


def confusion_matrix(evaluation: Evaluation, title: str) -> bytes:
    """Counts and, by colour, the share of each true class; PNG."""
    names = [score.label for score in evaluation.classes]
    figure = figure_of(2.6 + 1.1 * len(names), 2.2 + 1.0 * len(names))
    axes = figure.add_subplot()
    _draw_confusion(axes, evaluation.confusion, names)
    axes.set_title(
        f"{title}\naccuracy {evaluation.accuracy:.1%}, macro-F1 {evaluation.macro_f1:.3f}, {evaluation.photos} photos", fontsize=10
    )
    figure.colorbar(axes.images[0], ax=axes, label="share of the true class", fraction=0.046)
    return png_of(figure)


def confusion_matrices(confusions: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> bytes:
    """The confusion matrices of several models on the same photos, side by side; PNG.

    Args:
        confusions: title -> photos by true class (row) and predicted class (column).
        classes: names, in the order of rows and columns.
    """
    figure = figure_of((1.6 + 1.1 * len(classes)) * len(confusions), 2.2 + 1.0 * len(classes))
    for place, (title, confusion) in enumerate(confusions.items(), 1):
        axes = figure.add_subplot(1, len(confusions), place)
        _draw_confusion(axes, confusion, classes)
        axes.set_title(title, fontsize=11)
    return png_of(figure)


def class_balance(classes: Mapping[str, Mapping[str, int]]) -> bytes:
    """One bar per class, divided into its splits, with the number of photos in each; PNG.

    Args:
        classes: name -> split -> photos; at least one class, all with the same splits, at most three.
    """
    from matplotlib.ticker import MaxNLocator

    figure = figure_of(6.4, 1.0 + 0.42 * len(classes))
    axes = figure.add_subplot()
    left = np.zeros(len(classes))
    splits = list(next(iter(classes.values())))
    for split, (colour, on_it) in zip(splits, ((BLUE, "white"), (LIGHT, "black"), (ORANGE, "white")), strict=False):
        counts = np.array([photos[split] for photos in classes.values()])
        bars = axes.barh(list(classes), counts, left=left, color=colour, edgecolor="white", label=split)
        axes.bar_label(bars, [str(count) if count else "" for count in counts], label_type="center", color=on_it, fontsize=8)
        left += counts
    axes.invert_yaxis()
    axes.set_xlabel("photos", fontsize=9)
    axes.tick_params(labelsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, max(1.0, float(left.max())) * 1.02)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    without_box(axes)
    return png_of(figure)


def training_curve(history: Mapping[str, Sequence[float]], best_epoch: int) -> bytes:
    """Loss and accuracy of training and validation by epoch, with a line at the epoch whose weights are kept; PNG.

    Args:
        history: loss, accuracy, val_loss, val_accuracy -> one value per epoch.
        best_epoch: counted from 1.
    """
    from matplotlib.ticker import MaxNLocator

    figure = figure_of(9, 3.8)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for place, (metric, label) in enumerate((("loss", "loss (nats)"), ("accuracy", "accuracy")), 1):
        axes = figure.add_subplot(1, 2, place)
        # With markers, because a curve of one epoch is only a point.
        axes.plot(epochs, history[metric], color=BLUE, marker=".", label="training (augmented)")
        axes.plot(epochs, history[f"val_{metric}"], color=ORANGE, marker=".", linestyle="--", label="validation")
        axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        without_box(axes)
        if metric == "accuracy":
            axes.set_ylim(0.0, 1.02)
        else:
            axes.set_ylim(bottom=0.0)
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"Training: {len(epochs)} epochs, best validation loss {min(history['val_loss']):.3f} in epoch {best_epoch}", fontsize=11
    )
    return png_of(figure)


def worst_mistakes(photos: Photos, probabilities: npt.NDArray[np.floating], classes: Sequence[str]) -> bytes:
    """The wrong predictions with the highest probability, worst first, so that a person can check their labels; PNG.

    Args:
        photos: n photos.
        probabilities: (n, classes), in the order of the photos.
        classes: names, in the order of the columns.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = most_certain_mistakes(photos.labels, probabilities)
    shown = wrong[:MISTAKES]
    if not len(shown):
        figure = figure_of(6, 1.6)
        figure.text(0.5, 0.5, f"No mistakes on {len(photos)} test photos", ha="center", va="center", fontsize=13)
        return png_of(figure)
    pixels, there = photos.look(shown)
    return _sheet(
        [
            Tile(
                photo,
                f"predicted {classes[predicted[row]]} ({probabilities[row, predicted[row]]:.0%})\nlabelled {classes[photos.labels[row]]}",
                photos.paths[row],
            )
            for photo, row in zip(pixels, shown[there].tolist(), strict=True)
        ],
        f"Worst mistakes: {len(shown)} of {len(wrong)}, on {len(photos)} test photos",
    )


def doubtful_labels(tiles: Sequence[Tile], doubted: int, among: int) -> bytes:
    """The first of the photos whose labels look wrong, of so many whose labels were looked at; PNG."""
    return _sheet(tiles, f"Is this label right? {len(tiles)} of {doubted} doubtful labels, among {among:,} photos", columns=6)


def _sheet(tiles: Sequence[Tile], title: str, columns: int = 4) -> bytes:
    """Photos in rows, as PNG. Drawn by Pillow: matplotlib takes several times as long."""
    from PIL import Image, ImageDraw

    columns = min(columns, max(_FEWEST, len(tiles)))
    sheet = Image.new("RGB", (_TILE[0] * columns, _TITLE + _TILE[1] * -(-len(tiles) // columns)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((sheet.width / 2, _TITLE / 2), title, "black", _font(11), anchor="mm")
    words, name = _font(9), _font(7)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        left, top = _TILE[0] * column + (_TILE[0] - SIZE) // 2, _TITLE + _TILE[1] * row + _WORDS
        sheet.paste(Image.fromarray(tile.pixels), (left, top))
        draw.text((left, top - _GAP), tile.words, "black", words, anchor="ld")
        draw.text((left, top + SIZE + _GAP), _name(tile.path), GREY, name, anchor="la")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def _font(points: int) -> "FreeTypeFont":
    """The font of matplotlib's plots, in the size that they would give it."""
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont("DejaVu Sans"), points * _DPI / 72)


def reliability_diagram(before: Reliability, after: Reliability) -> bytes:
    """How many of the photos answered with a probability have that class, before and after calibration; PNG.

    On the diagonal, probabilities can be believed. A larger point has more photos.
    """
    figure = figure_of(9, 4.4)
    for place, (title, of) in enumerate((("as the network says", before), ("as the model answers", after)), 1):
        axes = figure.add_subplot(1, 2, place)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
        there = of.photos > 0
        share = of.photos[there] / of.photos.sum()
        axes.vlines(of.confidence[there], of.confidence[there], of.accuracy[there], color=ORANGE, linewidth=2)
        axes.scatter(of.confidence[there], of.accuracy[there], s=20 + 400 * share, color=BLUE, zorder=3)
        axes.set_xlabel(f"mean probability of the answers in each of {BINS} bins")
        axes.set_ylabel("share that is right")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.25)
        axes.set_title(f"{title}\ncalibration error {of.error:.3f}, {of.photos.sum()} photos", fontsize=10)
        without_box(axes)
    return png_of(figure)


def _draw_confusion(axes: "Axes", confusion: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    counts = np.array(confusion)
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), [f"{name} ({photos})" for name, photos in zip(names, support[:, 0], strict=True)])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (photos)")


def figure_of(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=_DPI, layout=layout, facecolor="white")


def png_of(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": _COMPRESSION})
    return buffer.getvalue()


def without_box(axes: "Axes") -> None:
    """Take away the lines above and on the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name(path: str) -> str:
    """The file's name, shortened in the middle, with ? for characters that fonts may lack."""
    name = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in path.replace("\\", "/").rpartition("/")[2])
    half = (_NAME_LENGTH - 3) // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[:half]}...{name[-half:]}"
