"""What the photos of one claim say together, and the table that keeps it.

The rule. A photo is decided if the model cannot exclude exactly one class, and that is its label. A claim's label is the worst class that
a decided photo shows. A person must look at the claim if a photo that is not decided could show worse than that: one with several possible
classes, one in which the model recognises no class, and one without an answer, because the model refused the file or it could not be read.
The last two could show anything.

Pure: Arrow tables in, Arrow tables out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described
from car_damage.data.photos.ledger import INSTANT

CLAIMS = described.table(
    "What the photos of a claim say together: the worst damage that they show, and whether a person must look.",
    [
        described.column("source", pa.string(), "Folder or table that the photos come from.", nullable=False),
        described.column("claim", pa.string(), "The claim: the table's column claim, or the folder's name.", nullable=False),
        described.column("model_version", pa.int64(), "Version of the registered model that answered.", nullable=False),
        described.column("label", pa.string(), "The worst class that a decided photo shows; null if no photo is decided."),
        described.column("review", pa.bool_(), "Whether a photo that is not decided could show worse than the label."),
        described.column("photos", pa.int64(), "Photos of the claim."),
        described.column("shown_by", pa.list_(pa.string()), "Paths of the decided photos that show the label."),
        described.column("undecided", pa.list_(pa.string()), "Paths of the photos that could show worse than the label."),
        described.column("flow_run", pa.string(), "Prefect flow run that wrote the row."),
        described.column("scored", INSTANT, "Time at which the row was written."),
    ],
)
KEY = ("source", "claim", "model_version")
LINK = ("path", "claim")
"""Which photo belongs to which claim. A photo may belong to several."""
CONTENT = ("label", "review", "photos", "shown_by", "undecided")
"""The columns that the photos determine."""


@dataclass(frozen=True)
class Photo:
    """One photo of a claim, and what a model says of it."""

    path: str
    possible: tuple[str, ...]
    """The classes that the model cannot exclude. Empty: it could be any."""


@dataclass(frozen=True)
class Claim:
    """What the photos of a claim say together."""

    label: str | None
    """The worst class that a decided photo shows. None: no photo is decided."""
    shown_by: tuple[str, ...]
    """Paths of the decided photos that show the label."""
    undecided: tuple[str, ...]
    """Paths of the photos that could show worse."""

    @property
    def review(self) -> bool:
        """Whether a person must look."""
        return bool(self.undecided)


def possible(label: str | None, classes: Sequence[str], review: bool | None) -> tuple[str, ...]:
    """The classes that a photo may be of; none: it could be any.

    Args:
        label: the answer; None: there is none.
        classes: those that the model cannot exclude.
        review: whether a person must look at the photo. None: the model does not say, and is taken at its word.
    """
    if label is None or (review and not classes):
        return ()
    return tuple(dict.fromkeys([label, *classes])) if review else (label,)


def claim_of(photos: Sequence[Photo], classes: Sequence[str]) -> Claim:
    """Apply the rule.

    Args:
        photos: those of the claim.
        classes: from the mildest to the worst. A photo with another class, of an older model, could show anything.
    """
    severity = {name: number for number, name in enumerate(classes)}
    worst = len(classes) - 1
    ranks = [[severity.get(name, worst) for name in photo.possible] or [worst] for photo in photos]
    decided = [len(photo.possible) == 1 and photo.possible[0] in severity for photo in photos]
    shown = max((rank[0] for rank, is_decided in zip(ranks, decided, strict=True) if is_decided), default=-1)
    rows = list(zip(photos, ranks, decided, strict=True))
    return Claim(
        None if shown < 0 else classes[shown],
        tuple(photo.path for photo, rank, is_decided in rows if is_decided and rank[0] == shown),
        tuple(photo.path for photo, rank, is_decided in rows if not is_decided and max(rank) > shown),
    )


def claims(of: pa.Table, answers: pa.Table, classes: Sequence[str]) -> pa.Table:
    """The claims of some photos.

    Args:
        of: the columns `LINK`.
        answers: path and possible (list of classes), a row for each photo that has an answer.
        classes: from the mildest to the worst.

    Returns:
        The columns claim and `CONTENT`, a row for each claim, sorted by its name.
    """
    said = dict(zip(answers["path"].to_pylist(), answers["possible"].to_pylist(), strict=True))
    photos: dict[str, dict[str, Photo]] = {}
    for path, claim in zip(of["path"].to_pylist(), of["claim"].to_pylist(), strict=True):
        photos.setdefault(claim, {})[path] = Photo(path, tuple(said.get(path) or ()))
    rows = []
    for name, some in sorted(photos.items()):
        claim = claim_of([photo for _, photo in sorted(some.items())], classes)
        content = (claim.label, claim.review, len(some), list(claim.shown_by), list(claim.undecided))
        rows.append({"claim": name, **dict(zip(CONTENT, content, strict=True))})
    return pa.Table.from_pylist(rows, pa.schema([CLAIMS.field(name) for name in ("claim", *CONTENT)]))


def changed(now: pa.Table, before: pa.Table) -> pa.Table:
    """The claims that are new, or whose content is another. Both tables have the columns claim and `CONTENT`."""
    known = {row["claim"]: row for row in before.select(["claim", *CONTENT]).to_pylist()}
    return now.filter(pa.array([known.get(row["claim"]) != row for row in now.to_pylist()], pa.bool_()))


def by_column(rows: pa.Table) -> pa.Table:
    """Path and claim of the photos of a table with these columns that belong to a claim."""
    links = pa.table({name: rows[name].cast(pa.string()) for name in LINK})
    return links.filter(pc.and_(pc.is_valid(links["path"]), pc.is_valid(links["claim"])))


def by_folder(paths: Sequence[str], source: str) -> pa.Table:
    """Path and claim of photos below a folder: the first folder in it. Files that lie in the folder itself belong to no claim."""
    root = source.rstrip("/") + "/"
    parted = ((path, *path.removeprefix(root).partition("/")[:2]) for path in paths if path.startswith(root))
    rows = [{"path": path, "claim": folder} for path, folder, slash in parted if slash]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in LINK]))
