"""The certificate of a photo that was forgotten: what was found where, and what became of it. As JSON, and as one page."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from html import escape

from car_damage.pipeline import ForgetReport

_STYLE = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto}td,th{text-align:left;padding:0 1em 0 0;vertical-align:top}"


def document(report: ForgetReport) -> bytes:
    """The certificate as JSON."""
    fields = asdict(report) | {"versions": report.versions}
    del fields["paths"]
    return json.dumps(fields, indent=1).encode()


def page(report: ForgetReport) -> bytes:
    """The certificate as HTML that loads nothing."""
    rows = "".join(f"<tr><td>{'<td>'.join(map(escape, row))}" for row in _rows(report))
    head = "".join(f"<th>{name}" for name in ("where", "what", "how many", "what became of it"))
    style, title = f"<style>{_STYLE}</style>", "A photo was forgotten"
    said = "".join(f"<p>{escape(line)}" for line in lines(report))
    return f"<!doctype html><meta charset=utf-8><title>{title}</title>{style}<h1>{title}</h1>{said}<table><tr>{head}{rows}</table>".encode()


def names(report: ForgetReport) -> tuple[str, str]:
    """The names of the two files."""
    return f"forgotten-{report.mark[:12]}.json", f"forgotten-{report.mark[:12]}.html"


def lines(report: ForgetReport) -> Iterator[str]:
    """The certificate in sentences, without its table."""
    yield f"Mark {report.mark}. First asked for {report.noted[:19]} UTC by {report.by or 'nobody named'}."
    yield "The mark is all that is kept of the photo's content: a file with this content is not taken up again."
    if report.files:
        yield f"The photo still lies where whoever owns the folder must remove it: {', '.join(report.files)}."
    if report.versions:
        numbers = ", ".join(map(str, report.versions))
        yield f"Trained with it: version {numbers}. A model cannot unlearn a photo; the next training is without it."
    if report.underway:
        yield f"In progress meanwhile: {', '.join(report.underway)}. Forget the photo once more when it has ended."


def _rows(report: ForgetReport) -> Iterator[tuple[str, str, str, str]]:
    for trace in report.found:
        yield trace.place, trace.what, f"{trace.items:,}", trace.stays or "removed"
    yield "every table", "earlier versions", "", "removed, but where it says otherwise"
