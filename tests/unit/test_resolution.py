"""What a model learns about the resolution and the compression of its training photos."""

import pyarrow as pa
import pytest

from car_damage.errors import Unavailable
from car_damage.model.pixels.resolution import FEWEST, LEAST, SAMPLE, learn
from car_damage.photo.compression import jpeg_quality
from car_damage.photo.preparation import Preparation
from tests import corpus
from tests.fakes import Photos, Time, sha256

JPEG = {quality: corpus.encoded(corpus.picture(0, 64, 48), "JPEG", quality=quality) for quality in range(1, 101)}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"exif": b"Exif\0\0" + bytes(200)}])
def test_the_quality_of_every_jpeg_by_libjpeg_is_recognised(options: dict[str, object]) -> None:
    image = corpus.picture(0, 64, 48)
    assert [jpeg_quality(corpus.encoded(image, "JPEG", quality=quality, **options)) for quality in range(1, 101)] == [*range(1, 101)]
    assert jpeg_quality(corpus.encoded(image.convert("L"), "JPEG", quality=70)) == 70


def test_a_camera_s_own_table_gets_the_quality_of_about_the_same_compression() -> None:
    at = JPEG[80].index(b"\xff\xdb") + 5
    table = JPEG[80][at : at + 64]
    own = JPEG[80].replace(table, bytes(max(1, number + (-1) ** place) for place, number in enumerate(table)))
    assert jpeg_quality(own) == pytest.approx(80, abs=3)


@pytest.mark.parametrize("cut", [3, 20, 100, 200])
def test_what_is_no_whole_jpeg_has_no_quality(cut: int) -> None:
    assert jpeg_quality(JPEG[80][:cut]) is None
    assert jpeg_quality(corpus.encoded(corpus.picture(), "PNG")) is None
    assert jpeg_quality(b"") is None


def silver(files: dict[str, bytes], sizes: list[tuple[int, int]], split: str = "train") -> pa.Table:
    """One row for each file, with these sizes in turn."""
    return pa.Table.from_pylist(
        [
            {"path": path, "sha256": sha256(data), "split": split, "width": wide, "height": high}
            for (path, data), (wide, high) in zip(files.items(), sizes * len(files), strict=False)
        ]
    )


def learnt(rows: pa.Table, files: Photos) -> Preparation:
    return learn(rows, files, 2, Time())  # type: ignore[arg-type]


def jpegs(qualities: list[int]) -> dict[str, bytes]:
    """Different photos of these qualities."""
    return {f"{n}.jpg": corpus.encoded(corpus.picture(n, 64, 48), "JPEG", quality=q) for n, q in enumerate(qualities)}


THUMBNAIL = 46_341
"""The area of 259x194 pixels on the scale of four steps to its double."""
QUALITIES = [30, 40, 50, 60, 70, 80, 85, 90, 92, 95, 98]


def test_area_and_quality_are_the_medians_of_the_training_photos_in_whatever_order() -> None:
    files = jpegs(QUALITIES)
    others = {f"other {path}": data for path, data in jpegs([5] * 20).items()}
    pngs = {f"{n}.png": corpus.encoded(corpus.picture(n, 64, 48), "PNG") for n in range(9)}
    rows = pa.concat_tables(
        [silver(files | pngs, [(259, 194)]), silver(others, [(64, 48)], "validation"), silver({"x": b"x"}, [(64, 48)], "test")]
    )
    here = Photos(files | others | pngs)
    assert learnt(rows, here) == Preparation(THUMBNAIL, 80)
    assert learnt(rows.take([*range(rows.num_rows)][::-1]), here) == learnt(rows, here)


def test_a_few_more_photos_do_not_change_what_is_learnt() -> None:
    files = jpegs([*QUALITIES, 79, 80, 81])
    few = dict(list(files.items())[: len(QUALITIES)])
    sizes = [(259, 194)] * len(few) + [(262, 199)] * 3
    assert learnt(silver(files, sizes), Photos(files)) == learnt(silver(few, sizes), Photos(few))


def test_an_area_has_bounds() -> None:
    files = jpegs(QUALITIES)
    assert learnt(silver(files, [(64, 48)]), Photos(files)) == Preparation(LEAST, 80)
    assert learnt(silver(files, [(448, 448)]), Photos(files)) == Preparation(185_364, 80)
    assert learnt(silver(files, [(4000, 3000)]), Photos(files)) == Preparation()


def test_too_few_jpegs_say_nothing_about_compression() -> None:
    files = jpegs(QUALITIES[: FEWEST - 1]) | {f"{n}.png": corpus.encoded(corpus.picture(n, 64, 48), "PNG") for n in range(20)}
    assert learnt(silver(files, [(259, 194)]), Photos(files)) == Preparation(THUMBNAIL)


def test_photos_that_cannot_be_read_or_have_changed_do_not_count() -> None:
    files = jpegs([*QUALITIES, 1, 1])
    rows = silver(files, [(259, 194)])
    here = {path: data for path, data in files.items() if path != "11.jpg"} | {"12.jpg": b"other bytes"}
    assert learnt(rows, Photos(here)) == Preparation(THUMBNAIL, 80)


def test_no_more_files_are_read_than_the_sample_has_and_an_outage_changes_nothing() -> None:
    files = jpegs([80] * SAMPLE + [40] * SAMPLE)

    class Hiccup(Photos):
        reads, failing = 0, True

        def read(self, path: str) -> bytes:
            self.reads += 1
            if self.failing:
                self.failing = False
                raise Unavailable(f"{path} cannot be read")
            return super().read(path)

    here, clock = Hiccup(files), Time()
    rows = silver(files, [(259, 194)])
    assert learn(rows, here, 1, clock) == learnt(rows, Photos(files))  # type: ignore[arg-type]
    assert (here.reads, clock.seconds) == (SAMPLE + 1, 1)
