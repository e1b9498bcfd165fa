"""Shows the labels that look wrong after a training, as a part of the artifact `model`."""

from car_damage.data.people.doubts import parse
from car_damage.model.run_files import DOUBTFUL_LABELS_FILE, DOUBTS_FILE
from car_damage.ports import Tracking
from tasks.markdown import picture, plain, table

TITLE = "Labels that look wrong"


def lines(run_id: str, tracking: Tracking) -> list[str]:
    """Which they are, and their photos, in Markdown. Raises RegistryError for a run of an earlier version."""
    doubts = parse(tracking.fetch(run_id, DOUBTS_FILE))
    if not doubts.photos:
        return [f"None of the {doubts.among:,} labels that could be looked at (or `answers.doubtful` is 0)."]
    rows = [(plain(one.path), plain(one.label), plain(one.says), f"{one.probabilities[one.label]:.2f}") for one in doubts.photos]
    told = f"{len(doubts.photos)} of {doubts.among:,}, asked of models that had not learned from them."
    return [
        f"{told} With `answers.keep_for_review`, the review desk asks people about them.",
        "",
        picture(tracking.fetch(run_id, DOUBTFUL_LABELS_FILE), TITLE),
        "",
        *table(("photo", "labelled", "the model says", "probability of the label"), rows, "lllr"),
    ]
