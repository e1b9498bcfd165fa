"""What `benchmarks.soak` has shown, and where it stands on the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak_checks import BOUNDS, LEFT, Account, Course

PAGE = Path("docs/scale.md")
TEMPORARY = "temporary folder"
_BEGIN, _END = "<!-- soak: written by make bench-soak -->", "<!-- end of soak -->"


@dataclass(frozen=True)
class Soak:
    """What the rounds have shown."""

    rounds: int
    seconds: float
    done: dict[str, int]
    courses: list[Course]
    accounts: list[Account]

    @property
    def wrong(self) -> list[str]:
        """A sentence for each leak and each loss."""
        leaks = [f"{one.process}: {one.growth:.2f} {one.what} more in each round" for one in self.courses if one.leaks]
        return leaks + [str(one) for one in self.accounts if one.wrong]


def lines_of(soak: Soak) -> Iterator[str]:
    """The figures, as Markdown."""
    done = ", ".join(f"{what} {number:,}" for what, number in soak.done.items())
    yield f"{soak.rounds} rounds took {soak.seconds:,.0f} s: {done}."
    yield ""
    of_processes = [what for what in BOUNDS if what != LEFT]
    yield "| process | " + " | ".join(of_processes) + " |"
    yield "| --- |" + " ---: |" * len(of_processes)
    for process in dict.fromkeys(one.process for one in soak.courses if one.process != TEMPORARY):
        cells = {one.what: _course(one) for one in soak.courses if one.process == process}
        yield f"| {process} | " + " | ".join(cells[what] for what in of_processes) + " |"
    yield "| bound of what a round adds | " + " | ".join(f"{BOUNDS[what]:g}" for what in of_processes) + " |"
    yield ""
    yield from (f"{one.what.capitalize()}: {_course(one)}, bound {BOUNDS[one.what]:g}." for one in soak.courses if one.process == TEMPORARY)
    yield ""
    yield "| what | done | lost or wrong |"
    yield "| --- | ---: | ---: |"
    for account in soak.accounts:
        yield f"| {account.what} | {account.given:,} | {len(account.wrong)} |"


def _course(course: Course) -> str:
    """After the warm-up, after the last round, and what a round adds."""
    return f"{course.counted[0]:,.0f} to {course.counted[-1]:,.0f}, {course.growth:+.2f}"


def write(lines: Sequence[str]) -> None:
    """Write the figures to the page, between its two markers."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text("\n".join([before + _BEGIN, "", *lines, "", _END + rest.partition(_END)[2]]))
