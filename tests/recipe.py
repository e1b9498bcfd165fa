"""The recipe of a model: the code that decodes photos and trains on them. `python -m tests.recipe` records its digest.

`RECIPE` is part of every training key, so a change of this code that changes models must raise it. tests/recipe.json has the RECIPE
and the digest of the code that belong together, and a test compares both with the code that is there. After a change that keeps RECIPE,
the command writes the digest only with proof: the code of the latest commit that has the recorded digest, and the code
that is there, make the same of the same photos and numbers, byte by byte. `tests.recipe_outcomes` says what.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests import corpus, recipe_outcomes

ROOT = Path(__file__).parents[1]
RECORD = Path("tests", "recipe.json")
PROOF = (str(RECORD), "tests/recipe.py", "tests/recipe_outcomes.py")
"""The files beside the package that decide what is proved."""
ROOTS = (
    "car_damage.model.networks.training",
    "car_damage.model.pixels.photos",
    "car_damage.model.networks.backbone",
    "car_damage.model.networks.tuning.fine_tuning",
    "car_damage.model.networks.heads",
    "car_damage.model.networks.seer",
    "car_damage.model.networks.views",
    "car_damage.model.pixels.resolution",
    "car_damage.model.quality.answers",
)
"""The modules that train, that decode for it, and that learn how to, and that fit answers. All that they import of the two rooms
is part of the recipe."""
ROOMS = ("car_damage.model", "car_damage.photo")
SINGLE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
"""Environment variables with which two trainings add numbers in the same order."""

Outcomes = Callable[[Path, Path, Path], dict[str, bytes]]
"""Makes of the code in a folder, a folder of photos and a file to write what `trained` does."""


@dataclass(frozen=True)
class Recipe:
    """A RECIPE, and the digest of the code that it stands for."""

    recipe: int
    digest: str


class NotProved(Exception):
    """The digest must not be recorded. The message says why, and what to do."""


def recorded(root: Path) -> Recipe:
    return Recipe(**json.loads((root / RECORD).read_text()))


def present(root: Path) -> Recipe:
    """RECIPE and the digest of the code below this folder."""
    return Recipe(_constant(root / "car_damage" / "pipeline.py", "RECIPE"), digest(root))


def digest(root: Path) -> str:
    """sha256, in hexadecimal, over the syntax trees of the recipe's modules: neither comments, docstrings nor layout change it."""
    trees = {name: _canonical(ast.parse(path.read_bytes())) for name, path in sorted(modules(root).items())}
    return hashlib.sha256(json.dumps(trees, sort_keys=True).encode()).hexdigest()


def modules(root: Path) -> dict[str, Path]:
    """Name -> file of each module of the recipe."""
    found: dict[str, Path] = {}
    left = list(ROOTS)
    while left:
        name = left.pop()
        if name not in found and (path := _file(root, name)) is not None:
            found[name] = path
            left += [one for one in _imports(ast.parse(path.read_bytes())) if one.startswith(ROOMS)]
    return found


def record(root: Path = ROOT, outcomes: Outcomes | None = None) -> str:
    """Record the recipe that is there; returns what was done. By default, `outcomes` trains in a process of its own.

    Raises:
        NotProved: the code gives another model, or there is nothing to compare it with.
    """
    before, now = recorded(root), present(root)
    if now == before:
        return f"{RECORD} is up to date"
    if now.recipe < before.recipe:
        raise NotProved(f"RECIPE is {now.recipe}, and it was {before.recipe} before: it must not become smaller")
    if now.recipe == before.recipe:
        _prove(root, before, outcomes or trained)
    (root / RECORD).write_text(json.dumps(asdict(now), indent=1) + "\n")
    why = "the same photos train the same model" if now.recipe == before.recipe else f"RECIPE was raised to {now.recipe}"
    return f"recorded in {RECORD}: {why}"


def _prove(root: Path, before: Recipe, outcomes: Outcomes) -> None:
    with tempfile.TemporaryDirectory(prefix="recipe-") as scratch:
        folder = Path(scratch)
        _write_photos(folder / "photos")
        _extract(root, _commit_with(root, before, folder), folder / "before")
        with ThreadPoolExecutor() as pool:
            first, second = pool.map(
                outcomes, (folder / "before", root), [folder / "photos"] * 2, (folder / "before.npz", folder / "now.npz")
            )
    # What only the present code says has nothing to be compared with.
    if different := sorted(name for name in first if first[name] != second.get(name)):
        parts = ", ".join(sorted({name.split()[0] for name in different}))
        raise NotProved(
            f"the code gives another model than the one that RECIPE {before.recipe} stands for: {len(different)} results differ, of "
            f"{parts}, such as {different[0]}. Raise RECIPE in car_damage/pipeline.py, and run this command again"
        )


def _write_photos(folder: Path) -> None:
    """Photos of every format, in every orientation, damaged, and no photos."""
    folder.mkdir()
    photos = {f"valid {name}": data for name, data in corpus.photos(0, 160, 120).items()}
    turned = ((turn, format_) for turn in range(1, 9) for format_ in ("JPEG", "TIFF"))
    photos |= {
        f"valid {format_} turned {turn}": corpus.with_orientation(corpus.picture(turn, 160, 120), turn, format_) for turn, format_ in turned
    }
    photos |= {f"broken {name}": data for name, (data, _) in corpus.broken().items()}
    photos |= {f"fuzzed {name}": data for name, data in corpus.fuzzed(100, seed=1)}
    for name, data in photos.items():
        (folder / name).write_bytes(data)


def _commit_with(root: Path, before: Recipe, folder: Path) -> str:
    """The latest commit with this recipe that can train with it."""
    for commit in _git(root, "rev-list", "HEAD", "--", "car_damage", *PROOF).decode().split():
        _extract(root, commit, folder / commit)
        if (folder / commit / RECORD).is_file() and recorded(folder / commit) == before and _own_digest(folder / commit) == before.digest:
            return commit
    raise NotProved(
        f"no commit here has the recorded digest, so there is nothing to compare with: fetch the whole history, or restore {RECORD}"
    )


def _own_digest(tree: Path) -> str:
    """The digest of this code by its own rules: modules have moved since."""
    command = [sys.executable, "-c", "from tests import recipe; print(recipe.digest(recipe.ROOT))"]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def _extract(root: Path, commit: str, to: Path) -> None:
    to.mkdir(exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(to)], input=_git(root, "archive", commit), check=True)  # noqa: S607


def trained(tree: Path, photos: Path, result: Path) -> dict[str, bytes]:
    """What this code makes of the photos: name -> bytes. Its own outcomes are written, by its functions as they are there."""
    environment = os.environ | SINGLE_THREAD | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "tests.recipe", "train", str(photos), str(result)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotProved(f"the training with the code in {tree} failed: {done.stderr[-2000:]}")
    with np.load(result) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True).stdout  # noqa: S607


def _file(root: Path, module: str) -> Path | None:
    """A module's file; None for a name that is no module, such as a function's."""
    path = root.joinpath(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Everything that a module imports: modules, and names in them, which may be modules too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _canonical(node: Any) -> Any:
    """A syntax tree as JSON, without docstrings and without what only some versions of Python have: fields that are empty."""
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
        return [type(node).__name__, {name: _canonical(value) for name, value in fields.items()}]
    if isinstance(node, list):
        return [_canonical(one) for one in node if not _is_text(one)]
    return repr(node)


def _is_text(node: Any) -> bool:
    """A statement that is only a string: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _constant(file: Path, name: str) -> int:
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == [name]:
            return int(ast.literal_eval(node.value))
    raise NotProved(f"{file} sets no {name}")


def main() -> None:
    """Record the recipe; with `train FOLDER FILE`, only write the outcomes of the photos in a folder."""
    if sys.argv[1:2] == ["train"]:
        recipe_outcomes.write(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    try:
        print(record())  # noqa: T201
    except NotProved as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
