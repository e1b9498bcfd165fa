"""The code that decodes and trains is the one that RECIPE stands for, and its digest is recorded only with proof."""

import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import recipe

Change = Callable[[str, str, str], None]
NETWORKS = "car_damage/model/networks/cnn.py"
PIPELINE = "car_damage/pipeline.py"


def test_the_code_that_decodes_and_trains_is_the_one_that_recipe_stands_for() -> None:
    assert recipe.present(recipe.ROOT) == recipe.recorded(recipe.ROOT), (
        f"the code that decodes photos or trains on them has changed since {recipe.RECORD} was written. If the same photos still train the "
        "same model, run `.venv/bin/python -m tests.recipe`, which proves it. Otherwise raise RECIPE in car_damage/pipeline.py first"
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit: the package, and what its recipe needs."""
    shutil.copytree(recipe.ROOT / "car_damage", tmp_path / "car_damage", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "corpus.py", "fakes.py", "recipe.py", "recipe_outcomes.py", "recipe.json"):
        shutil.copyfile(recipe.ROOT / "tests" / name, tmp_path / "tests" / name)
    author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    for command in (("init", "--quiet"), ("add", "."), (*author, "commit", "--quiet", "--message", "all")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)  # noqa: S607
    return tmp_path


@pytest.fixture
def change(checkout: Path) -> Change:
    """Replaces a text that a file of the checkout has once."""

    def replace(file: str, old: str, new: str) -> None:
        text = (checkout / file).read_text()
        assert text.count(old) == 1
        (checkout / file).write_text(text.replace(old, new))

    return replace


@pytest.fixture(scope="module")
def outcomes() -> recipe.Outcomes:
    """Trains once with the same code: the tests begin with the same commit."""
    known: dict[str, dict[str, bytes]] = {}
    one = threading.Lock()

    def trained(tree: Path, photos: Path, result: Path) -> dict[str, bytes]:
        with one:  # Python 3.11 miscounts its recursion if two threads parse
            code = recipe.digest(tree)
        if code not in known:
            known[code] = recipe.trained(tree, photos, result)
        return known[code]

    return trained


def test_comments_docstrings_and_layout_are_no_part_of_the_digest(checkout: Path, change: Change) -> None:
    before = recipe.digest(checkout)
    change(NETWORKS, "BRIGHTNESS = 0.25\n", "# A comment.\nBRIGHTNESS = (\n    0.25\n)\n")
    change(NETWORKS, '"""Photos are made brighter or darker by up to this factor."""', '"""Another docstring."""')
    change(NETWORKS, '"""The network with the name in the setting `training.network`."""', '"""Another one."""')
    assert recipe.digest(checkout) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (NETWORKS, "BRIGHTNESS = 0.25", "BRIGHTNESS = 0.2"),
        ("car_damage/model/networks/training.py", "alpha=0.05", "alpha=0.1"),
        ("car_damage/model/pixels/pixel_cache.py", "pixels[slots >= 0] = ", "pixels[slots > 0] = "),
        ("car_damage/photo/limits.py", "SIZE = 224", "SIZE = 192"),
        ("car_damage/photo/formats/tiff.py", "import struct", "import struct as structure"),
    ],
)
def test_code_of_decoding_and_training_is_part_of_the_digest(checkout: Path, change: Change, file: str, old: str, new: str) -> None:
    before = recipe.digest(checkout)
    change(file, old, new)
    assert recipe.digest(checkout) != before


def test_a_module_that_a_network_imports_becomes_part_of_the_digest(checkout: Path, change: Change) -> None:
    (checkout / "car_damage" / "model" / "backbones.py").write_text("SIZE = 1\n")
    change(
        NETWORKS,
        "from car_damage.photo.limits import SIZE\n",
        "from car_damage.model import backbones\nfrom car_damage.photo.limits import SIZE\n",
    )
    before = recipe.digest(checkout)
    (checkout / "car_damage" / "model" / "backbones.py").write_text("SIZE = 2\n")
    assert recipe.digest(checkout) != before


def test_a_recipe_that_was_raised_is_recorded_with_the_code_as_it_is(checkout: Path, change: Change) -> None:
    change(NETWORKS, "BRIGHTNESS = 0.25", "BRIGHTNESS = 0.2")
    now = recipe.recorded(checkout).recipe
    change(PIPELINE, f"RECIPE = {now}\n", f"RECIPE = {now + 1}\n")
    recipe.record(checkout)
    assert recipe.recorded(checkout) == recipe.Recipe(now + 1, recipe.digest(checkout))


def test_a_digest_that_no_commit_has_cannot_be_replaced(checkout: Path, change: Change) -> None:
    change("tests/recipe.json", recipe.recorded(checkout).digest, "0" * 64)
    with pytest.raises(recipe.NotProved, match="no commit here has the recorded digest"):
        recipe.record(checkout)


@pytest.mark.slow
def test_a_change_that_trains_the_same_model_is_recorded(checkout: Path, change: Change, outcomes: recipe.Outcomes) -> None:
    change(
        NETWORKS,
        'return keras.Model(photo, probabilities, name="cnn")',
        'whole = keras.Model(photo, probabilities, name="cnn")\n    return whole',
    )
    recipe.record(checkout, outcomes)
    assert recipe.recorded(checkout) == recipe.present(checkout)


@pytest.mark.slow
def test_a_change_of_any_part_of_the_recipe_is_refused_until_recipe_is_raised(
    checkout: Path, change: Change, outcomes: recipe.Outcomes
) -> None:
    change(NETWORKS, "BRIGHTNESS = 0.25", "BRIGHTNESS = 0.2")
    change("car_damage/model/networks/tuning/learner.py", "BATCH = 32", "BATCH = 16")
    change("car_damage/model/networks/augmentation.py", "QUALITIES = (40, 95)", "QUALITIES = (45, 95)")
    change("car_damage/model/networks/views.py", "_MIDDLE = 0.8", "_MIDDLE = 0.7")
    change("car_damage/model/quality/calibration.py", "HOTTEST = 5.0", "HOTTEST = 4.0")
    parts = "answering, answers, seen, tuned, tuned_wide, view, weights, wide"
    with pytest.raises(recipe.NotProved, match=rf" of {parts}, such as .* Raise RECIPE in car_damage/pipeline\.py"):
        recipe.record(checkout, outcomes)
    assert recipe.recorded(checkout) != recipe.present(checkout)
