"""What `benchmarks.soak` checks: processes that do not grow, and tables that have everything. In plain loops over rows."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MEMORY, THREADS, FILES, CHILDREN, LEFT = "memory, MB", "threads", "open files", "child processes", "files in the temporary folder"
BOUNDS = {MEMORY: 2.0, THREADS: 0.2, FILES: 0.2, CHILDREN: 0.2, LEFT: 0.2}
"""What may be added in a round. Whatever leaks one in every third round adds a third."""
WARM_UP = 1 / 3
"""Share of the rounds that come first and do not count: caches fill, and libraries are imported."""
_WRONG_SHOWN = 10


@dataclass(frozen=True)
class Course:
    """What a process had after each round."""

    process: str
    what: str
    values: Sequence[float]

    @property
    def counted(self) -> Sequence[float]:
        """The values after the warm-up."""
        return self.values[int(len(self.values) * WARM_UP) :]

    @property
    def growth(self) -> float:
        """A round: the median slope of all pairs of rounds (Theil and Sen), which a single step does not move."""
        from scipy.stats import theilslopes

        return float(theilslopes(self.counted).slope) if len(self.counted) > 1 else 0.0

    @property
    def leaks(self) -> bool:
        """Whether it grows by more than its bound."""
        return self.growth > BOUNDS[self.what]


@dataclass(frozen=True)
class Account:
    """What should be in the tables, and what is wrong there."""

    what: str
    given: int
    wrong: list[str]

    def __str__(self) -> str:
        return f"{len(self.wrong)} of {self.given} {self.what} are wrong: {', '.join(self.wrong[:_WRONG_SHOWN])}"


def usage(pid: int, *, alone: bool = False) -> dict[str, float]:
    """What a process and all that it has started have at this moment, such as the model's process of the endpoint server.

    Args:
        pid: of the process.
        alone: without what it has started, but for their number.
    """
    import psutil

    process = psutil.Process(pid)
    children = process.children(recursive=True)
    found = {MEMORY: 0.0, THREADS: 0.0, FILES: 0.0, CHILDREN: float(len(children))}
    for one in [process] if alone else [process, *children]:
        with suppress(psutil.NoSuchProcess), one.oneshot():  # it has ended since
            found[MEMORY] += one.memory_info().rss / 1e6
            found[THREADS] += one.num_threads()
            found[FILES] += one.num_fds()
    return found


def swaps(live: Sequence[int], rounds: int) -> Account:
    """Whether another version went live as often as there were rounds: without swaps the figures say nothing about them.

    Args:
        live: the versions that went live, in the order of time or backwards.
        rounds: how many there were.
    """
    done = sum(one != before for before, one in pairwise(live))
    return Account("swaps of versions", rounds, ["no swap"] * (rounds - done))


def requests(asked: Mapping[str, int], only_ours: Collection[str], logged: Iterable[str | None]) -> Account:
    """Whether every answered request is one row of the request log.

    Args:
        asked: sha256 of a photo -> requests that were answered.
        only_ours: the photos of which nobody else asks.
        logged: sha256 of each row.
    """
    rows = Counter(logged)
    lost = [f"{asked[sha256] - rows[sha256]} rows of {sha256} are missing" for sha256 in asked if rows[sha256] < asked[sha256]]
    twice = [f"{rows[sha256] - asked[sha256]} rows of {sha256} too many" for sha256 in only_ours if rows[sha256] > asked.get(sha256, 0)]
    return Account("answered requests", sum(asked.values()), lost + twice)


def landed(paths: Collection[str], bronze: Iterable[Mapping[str, Any]]) -> Account:
    """Whether every landed file has one present row of bronze."""
    present = Counter(row["path"] for row in bronze if row["status"] in {"valid", "rejected"})
    return Account("landed files", len(paths), [path for path in paths if present[path] != 1])


def words(said: Collection[tuple[str, str, str]], reviews: Iterable[Mapping[str, Any]]) -> Account:
    """Whether every word is a row of the reviews.

    Args:
        said: sha256, label and person of each word.
        reviews: all rows.
    """
    lost = Counter(said) - Counter((row["sha256"], row["label"], row["by"]) for row in reviews)
    return Account("words of people", len(said), [" ".join(word) for word in lost.elements()])


def forgotten(photos: Collection[str], tables: Mapping[str, Iterable[str | None]]) -> Account:
    """Whether no table has a forgotten photo.

    Args:
        photos: sha256 of each.
        tables: name -> sha256 of each row.
    """
    there = [f"{sha256} in {name}" for name, rows in tables.items() for sha256 in sorted(set(rows).intersection(photos))]
    return Account("forgotten photos", len(photos), there)
