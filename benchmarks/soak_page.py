"""What `benchmarks.soak` has shown, and where it stands on the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak_checks import BOUNDS, Account, Course

PAGE = Path("docs/scale.md")
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
    yield "| processes | what | after the warm-up | after the last round | added in a round | bound |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for one in soak.courses:
        first, last = one.counted[0], one.counted[-1]
        yield f"| {one.process} | {one.what} | {first:,.0f} | {last:,.0f} | {one.growth:.2f} | {BOUNDS[one.what]:g} |"
    yield ""
    yield "| what | done | wrong in the tables |"
    yield "| --- | ---: | ---: |"
    for account in soak.accounts:
        yield f"| {account.what} | {account.given:,} | {len(account.wrong)} |"


def write(lines: Sequence[str]) -> None:
    """Write the figures to the page, between its two markers."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text("\n".join([before + _BEGIN, "", *lines, "", _END + rest.partition(_END)[2]]))
