"""The model's process answers like MLflow's own application, and answers several requests with one call of the model."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from car_damage.model.served.scoring import BUNCH, CALLS, Response, Scoring

MODEL = """
import time
from pathlib import Path

import mlflow
import pandas
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE


class Table(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pandas.DataFrame, params=None):
        return pandas.DataFrame(self.rows(model_input["image"].tolist()))

    def rows(self, images):
        for row, image in enumerate(images):
            if image == "bad":
                raise MlflowException(f"row {row}: bad", error_code=INVALID_PARAMETER_VALUE)
            if image == "crash":
                raise RuntimeError("crashed")
            end = time.monotonic() + 60
            while image.startswith("/") and not Path(image).exists() and time.monotonic() < end:
                time.sleep(0.005)
        return [{"image": image, "rows": len(images), "third": len(image) / 3} for image in images]


class Rows(Table):
    def classify(self, images):
        return self.rows(images)


mlflow.models.set_model(KIND())
"""
JSON = "application/json"


@pytest.fixture(scope="module", params=["Table", "Rows"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that returns each image and the number of rows in its call. For an image that is a path, it waits for that file.

    Models of earlier releases take tables only.
    """
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo.py").write_text(MODEL.replace("KIND", request.param))
    mlflow.pyfunc.save_model(
        folder / "model",
        python_model=str(folder / "echo.py"),
        signature=ModelSignature(Schema([ColSpec("string", "image")])),
        input_example=pd.DataFrame({"image": ["a"]}),
        pip_requirements=["mlflow"],
    )
    return mlflow.pyfunc.load_model(str(folder / "model"))


def asking(*images: str) -> bytes:
    return json.dumps({"dataframe_records": [{"image": image} for image in images]}).encode()


def rows(answer: Response) -> list[int]:
    return [row["rows"] for row in json.loads(answer.body)["predictions"]]


def run(model: Any, work: Callable[[Scoring], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(60):
            return await work(Scoring(model))

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, asking("a")),
        (JSON, asking("a", "b")),
        (JSON, b'{"dataframe_split": {"columns": ["image"], "data": [["a"], ["b"]]}}'),
        (JSON, b'{"inputs": {"image": ["a"]}}'),
        (JSON, b'{"inputs": 3}'),
        (JSON, b'{"instances": [{"image": 7}]}'),
        (JSON, b'{"dataframe_records": [{"image": NaN}]}'),
        (JSON, b'{"dataframe_records": [{"image": "a", "more": 1}]}'),
        (JSON, b'{"dataframe_records": [{"picture": "a"}]}'),
        (JSON, b'{"dataframe_records": [{"image": "a"}], "params": {"x": 1}}'),
        (JSON, b'{"dataframe_records": [], "inputs": []}'),
        (JSON, b"{not json"),
        (JSON, b"[]"),
        (JSON, b"7"),
        (JSON, b"\xff\xfe"),
        (JSON, b""),
        (JSON, asking("bad")),
        (JSON, asking("crash")),
        (f"{JSON}; charset=utf-8", asking("a")),
        (f"{JSON};charset=utf-8", asking("a")),
        (f"{JSON}; charset=latin-1", asking("a")),
        (f"{JSON}; version=3", asking("a")),
        ("text/csv", b"image\na\nb\n"),
        ("image/jpeg", b"\xff\xd8"),
    ],
)
def test_an_answer_is_that_of_mlflows_application(model: Any, content_type: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from mlflow.pyfunc import scoring_server

    # The application sets this variable and never removes it.
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")

    async def both(scoring: Scoring) -> Any:
        # An uncaught exception becomes a 500, as with uvicorn.
        transport = httpx.ASGITransport(scoring_server.init(model), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            theirs = await client.post("/invocations", content=body, headers={"Content-Type": content_type})
        return await scoring.answer(content_type, body), theirs

    ours, theirs = run(model, both)
    assert (ours.status, said(ours.body)) == (theirs.status_code, said(theirs.text))
    assert ours.content_type.partition(";")[0] == theirs.headers["content-type"].partition(";")[0]


def said(body: str) -> Any:
    """A response without its stack trace, which the server does not pass on."""
    try:
        return {key: value for key, value in json.loads(body).items() if key != "stack_trace"}
    except ValueError:
        return body


@pytest.mark.parametrize("images", [["a", "b", "c"], ["a", "bad", "c"], ["a", "crash", "c"]])
def test_requests_that_had_to_wait_share_a_call_unless_one_of_them_is_bad(model: Any, tmp_path: Path, images: list[str]) -> None:
    free = tmp_path / "free"

    async def work(scoring: Scoring) -> list[Response]:
        holding = [asyncio.create_task(scoring.answer(JSON, asking(str(free)))) for _ in range(CALLS)]
        waiting = [asyncio.create_task(scoring.answer(JSON, asking(image))) for image in images]
        await asyncio.sleep(0)
        free.touch()
        await asyncio.gather(*holding)
        return list(await asyncio.gather(*waiting))

    answers = run(model, work)
    good = {"a", "b", "c"}.issuperset(images)
    assert [answer.status for answer in answers] == [200 if image in "abc" else 400 for image in images]
    for image, answer in zip(images, answers, strict=True):
        if image == "bad":
            assert "row 0: bad" in json.loads(answer.body)["message"]
        elif answer.status == 200:
            assert json.loads(answer.body)["predictions"] == [{"image": image, "rows": len(images) if good else 1, "third": 1 / 3}]


def test_a_call_is_shared_by_no_more_than_it_may_and_by_none_with_several_rows(model: Any, tmp_path: Path) -> None:
    free = tmp_path / "free"

    async def work(scoring: Scoring) -> list[Response]:
        holding = [asyncio.create_task(scoring.answer(JSON, asking(str(free)))) for _ in range(CALLS)]
        bodies = [asking("x", "y"), *[asking("a")] * (BUNCH - 1), *[asking("b")] * BUNCH]
        waiting = [asyncio.create_task(scoring.answer(JSON, body)) for body in bodies]
        await asyncio.sleep(0)
        free.touch()
        await asyncio.gather(*holding)
        return list(await asyncio.gather(*waiting))

    answers = run(model, work)
    assert [rows(answer) for answer in answers] == [[2, 2], *[[BUNCH - 1]] * (BUNCH - 1), *[[BUNCH]] * BUNCH]


def test_a_request_that_takes_too_long_is_answered_504_and_the_others_are_answered(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1")
    free = tmp_path / "free"

    async def work(scoring: Scoring) -> list[Response]:
        late = await asyncio.gather(*(scoring.answer(JSON, asking(str(free))) for _ in range(CALLS + 1)))
        free.touch()
        return [*late, await scoring.answer(JSON, asking("a"))]

    *late, last = run(model, work)
    assert {(answer.status, answer.body) for answer in late} == {(504, "Request processing time exceeded limit")}
    assert rows(last) == [1]
