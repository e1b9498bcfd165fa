"""The report of a training as one HTML file. It loads nothing and runs no script, so it can be kept, sent and shown in a frame."""

import base64
import re
from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib.resources import files

from car_damage.data.photos.groups import MIN_PHOTOS
from car_damage.data.photos.splits import SPLITS, TEST, VALIDATION
from car_damage.model.quality.bootstrap import RESAMPLES, Interval
from car_damage.model.report.charts import coverage_curve, learning_curve, whisker
from car_damage.model.report.contents import Mistake, Report

GROUPS = 40
"""Groups in the table, at most."""
_LONGEST = 120
"""Characters of a text from outside; a longer one is shortened in the middle."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser loads nothing, whatever the page says."""


def page(report: Report) -> bytes:
    """The page in UTF-8. Texts from outside, such as paths and labels, are escaped."""
    style = (files("car_damage.model.report") / "style.css").read_text(encoding="utf-8")
    title = f"{report.network} on {report.silver} version {report.silver_version}"
    body = "".join(
        (
            _header(report),
            _tiles(report),
            _section("Scores on the test photos", _figures(report)),
            _section("By class", _by_class(report)),
            _section("Which class was taken for which, and what it costs", _confusion(report)),
            _section("An answer or a person", _answers(report)),
            _section("By group", _groups(report)),
            _section("Would more photos help?", _curve(report)),
            _section("The most certain mistakes", _mistakes(report)),
            _section("Photos", _photos(report)),
            _section("Settings", _settings(report)),
        )
    )
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_text(title)}</title><style>{style}</style>'
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'.encode("utf-8", "replace")


def _header(report: Report) -> str:
    silver = f"{_text(report.silver)}, version {report.silver_version}, fingerprint {_text(report.fingerprint[:12])}"
    return f"<header><h1>How good is this model?</h1><p class=quiet>Network {_text(report.network)}, trained on {silver}</p></header>"


def _tiles(report: Report) -> str:
    tiles = [(f"{f.value:.3f}", f.name, f"95 % interval {_range(f.interval)}") for f in report.scores.figures[:4]]
    tiles[2:3] = []  # mean recall is in the table
    if groups := report.scores.groups:
        worst = min(groups, key=lambda group: group.macro_f1)
        tiles.append((f"{worst.macro_f1:.3f}", "macro-F1 of the worst group", worst.name))
    cells = (f"<div><span>{_text(name)}</span><b>{value}</b><span>{_text(more)}</span></div>" for value, name, more in tiles)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _figures(report: Report) -> str:
    on_validation = report.evaluations[VALIDATION]
    validation = {"macro-F1": on_validation.macro_f1, "accuracy": on_validation.accuracy, "log loss": on_validation.log_loss}
    rows = []
    for figure in report.scores.figures:
        of_validation = f"{validation[figure.name]:.3f}" if figure.name in validation else ""
        is_share = figure.name in {"macro-F1", "accuracy", "mean recall"}
        chart = whisker(figure.value, figure.interval) if is_share else ""
        rows.append((_text(figure.name), f"{figure.value:.3f}", _range(figure.interval), chart, of_validation))
    note = (
        f"{report.evaluations[TEST].photos:,} test photos, which the training has not seen. The interval is that of the percentile "
        f"bootstrap: {RESAMPLES:,} times as many photos were drawn from them with replacement, and 95 % of the scores of these draws are "
        "in it. It says how far chance may have moved the score, not what happens with other cameras or car parks. "
    )
    if report.network == "cnn":
        note += "The validation photos chose the epoch, so scores on them are a little too good."
    return _table(("", "test", "95 % interval", "0 to 1", "validation"), rows, "lrrcr") + f"<p class=quiet>{note}</p>"


def _by_class(report: Report) -> str:
    rows = []
    for score, spread in zip(report.evaluations[TEST].classes, report.scores.by_class, strict=True):
        cells = [(score.precision, spread.precision), (score.recall, spread.recall), (score.f1, spread.f1)]
        shown = (text for value, interval in cells for text in (f"{value:.3f}", f"<span class=quiet>{_range(interval)}</span>"))
        rows.append((_text(score.label), f"{score.support:,}", f"{score.predicted:,}", *shown))
    header = ("class", "photos", "predicted", "precision", "95 %", "recall", "95 %", "F1", "95 %")
    note = "Where all answers are right, or all are wrong, all draws are alike: there an interval is too narrow."
    return f"{_table(header, rows, 'lrrrrrrrr')}<p class=quiet>{note}</p>"


def _confusion(report: Report) -> str:
    evaluation = report.evaluations[TEST]
    names = [_text(score.label) for score in evaluation.classes]
    rows, dearest = [], 0.0
    for row, (name, counts) in enumerate(zip(names, evaluation.confusion, strict=True)):
        cells, support = [f"<th scope=row>{name}<br><span class=quiet>{sum(counts):,} photos</span></th>"], max(sum(counts), 1)
        for column, count in enumerate(counts):
            colour = "0 114 178" if row == column else "213 94 0"
            cost = report.costs[row][column]
            dearest += count * cost
            price = "" if row == column else f", cost {cost:g}"
            share = count / support
            cells.append(
                f'<td style="background: rgb({colour} / {0.55 * share:.2f})"><b>{count:,}</b><small>{share:.0%}{price}</small></td>'
            )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th scope=col>{name}</th>" for name in names)
    table = f"<thead><tr><th class=quiet>true \\ predicted</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    total = f"All mistakes together cost {dearest:,.6g}, {dearest / evaluation.photos:.3f} a photo (promotion.costs)."
    return f'<div class=wide><table class="confusion">{table}</table></div><p>{total}</p>'


def _answers(report: Report) -> str:
    answers, names = report.answers, [_text(score.label) for score in report.evaluations[TEST].classes]
    rows = []
    for one in sorted({*answers.workloads, answers.chosen}, key=lambda one: one.coverage):
        mark = f"<b>{one.coverage:.3g}</b>" if one.coverage == answers.chosen.coverage else f"{one.coverage:.3g}"
        covered = ("" if share is None else f"{share:.3f}" for share in one.covered)
        accuracy = "" if one.accuracy is None else f"{one.accuracy:.3f}"
        rows.append((mark, *covered, f"{one.review:.1%}", accuracy, f"{one.cost:.3f}"))
    header = ("coverage", *(f"{name} covered" for name in names), "to a person", "accuracy of the others", "cost a photo")
    believed = (
        f"Calibration error on the test photos: {answers.before.error:.3f} as the network says, {answers.after.error:.3f} as the model "
        "answers. It is how far probabilities are from the share of answers that are right."
    )
    note = (
        "With each answer come the classes that it cannot exclude, so that of the photos of each class the coverage asked for have their "
        "class among them. Unless that is the answered class alone, a person must look, which costs "
        f"{answers.review_cost:g} (answers.review_cost). A wrong answer without a look costs what promotion.costs says. The model's own "
        "coverage is marked."
    )
    table = _table(header, rows, "r" * len(header))
    return f"<p>{believed}</p>{coverage_curve(answers.workloads, answers.chosen)}{table}<p class=quiet>{note}</p>"


def _groups(report: Report) -> str:
    scored, floor = sorted(report.scores.groups, key=lambda group: group.macro_f1), report.group_floor
    rows = [
        (
            _text(group.name),
            f"<span class=quiet>{_text(group.what)}</span>",
            f"{group.photos:,}",
            f'<span class="{"problem" if group.macro_f1 < floor else ""}">{group.macro_f1:.3f}</span>',
            _range(group.interval),
            whisker(group.macro_f1, group.interval, floor),
        )
        for group in scored[:GROUPS]
    ]
    notes = [f"{len(scored) - GROUPS:,} more groups have higher scores." if len(scored) > GROUPS else ""]
    if small := report.scores.small_groups:
        notes.append(f"{_count(small, 'group')} with fewer than {MIN_PHOTOS} test photos {'has' if small == 1 else 'have'} no score.")
    notes.append(f"promotion.group_floor asks for {floor:g} on every group of a decision's test photos." if floor else "")
    table = _table(("group", "which photos", "photos", "macro-F1", "95 % interval", "0 to 1"), rows, "llrrrc") if rows else ""
    return f"{table}<p class=quiet>{' '.join(filter(None, notes))}</p>{_without_group(report)}"


def _without_group(report: Report) -> str:
    if not report.without_group:
        return ""
    rows = [
        (
            _text(one.group),
            f"{one.photos:,}",
            f"{one.trained_with:.3f}",
            f"{one.trained_without:.3f}",
            f"{one.trained_without - one.trained_with:+.3f}",
        )
        for one in report.without_group
    ]
    note = "Macro-F1 on the photos of a group, by a model that was trained with them and by one that has never seen this group."
    return f"<p>{note}</p>" + _table(("group", "photos", "trained with it", "trained without it", "difference"), rows, "lrrrr")


def _curve(report: Report) -> str:
    if not report.curve:
        return (
            "<p>This was not measured. It takes four trainings, with 25, 50, 75 and 100 % of the training photos, so it is done only for "
            "networks that train in seconds.</p>"
        )
    rows = [
        (f"{point.share:.0%}", f"{point.photos:,}", f"{point.macro_f1:.3f}", _range(point.interval) if point.interval else "")
        for point in report.curve
    ]
    table = _table(("share", "training photos", "macro-F1", "95 % interval"), rows, "rrrr")
    return learning_curve(report.curve) + table + "<p class=quiet>If the curve still rises at its end, more photos help.</p>"


def without(page: bytes, paths: Collection[str]) -> bytes:
    """The page without the mistakes that show a photo at one of these paths."""
    titles = [f'title="{_text(path)}"' for path in paths]

    def kept(figure: re.Match[str]) -> str:
        return "" if any(title in figure[0] for title in titles) else figure[0]

    return re.sub(r"<figure>.*?</figure>", kept, page.decode(), flags=re.DOTALL).encode()


def _mistakes(report: Report) -> str:
    if not report.mistakes_in_all:
        return "<p>No mistake on the test photos.</p>"
    sheet = "".join(map(_mistake, report.mistakes))
    note = f"{len(report.mistakes):,} of {_count(report.mistakes_in_all, 'mistake')}. Some of them may be wrong labels."
    return f'<p class=quiet>{note}</p><div class="sheet">{sheet}</div>'


def _mistake(mistake: Mistake) -> str:
    name = mistake.path.replace("\\", "/").rpartition("/")[2]
    source = f"data:image/jpeg;base64,{base64.b64encode(mistake.jpeg).decode()}"
    says = f"<b>{_text(mistake.predicted)} {mistake.probability:.0%}</b>labelled {_text(mistake.label)}"
    picture = f'<img alt="" src="{source}">'
    return f'<figure>{picture}<figcaption>{says}<br><span title="{_text(mistake.path)}">{_text(name, 40)}</span></figcaption></figure>'


def _photos(report: Report) -> str:
    classes = [score.label for score in report.evaluations[TEST].classes]
    counts = [(split, [report.photos[split].get(name, 0) for name in classes]) for split in SPLITS]
    counts.append(("all", [sum(of_split[number] for _, of_split in counts) for number in range(len(classes))]))
    rows = [(split, *(f"{photos:,}" for photos in (*of_split, sum(of_split)))) for split, of_split in counts]
    table = _table(("split", *map(_text, classes), "all"), rows, "l" + "r" * (len(classes) + 1))
    alike = f"Near-duplicates across splits, within {report.near_duplicate_bits} bits of their perceptual hash: "
    found = f"<p>{alike}0, as it should be.</p>"
    if report.near_duplicates:
        found = (
            f'<p class="problem">{alike}{_count(report.near_duplicates, "photo")}. The scores may be too good. 0 are expected, unless '
            "split.near_duplicate_bits was raised after the photos got their splits.</p>"
        )
    left_out = f"<p>{_count(report.left_out, 'photo')} could not be read, and took no part.</p>" if report.left_out else ""
    return table + found + left_out


def _settings(report: Report) -> str:
    return _table(("setting", "value"), [(_text(key), _text(value)) for key, value in report.settings.items()], "ll")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A table of cells in HTML; l, r or c (a chart) for each column."""
    kinds = [{"l": "", "r": " class=number", "c": " class=chart"}[letter] for letter in align]
    head = "".join(f"<th scope=col{kind}>{cell}</th>" for kind, cell in zip(kinds, header, strict=True))
    body = "".join(f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _range(spread: Interval) -> str:
    return f"{spread[0]:.3f} to {spread[1]:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _text(text: str, longest: int = _LONGEST) -> str:
    """A text from outside, shortened and escaped."""
    half = (longest - 1) // 2
    return escape(text if len(text) <= longest else f"{text[:half]}…{text[-half:]}")
