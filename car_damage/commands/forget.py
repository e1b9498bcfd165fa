"""`car-damage forget`: remove everything that is known of a photo, and certify it. Where jobs do the stages, the flow forget does."""

from collections.abc import Callable
from pathlib import Path

from car_damage.commands.review import named_photo
from car_damage.commands.terminal import printable
from car_damage.data.forgotten import mark_of
from car_damage.errors import RequestRefused
from car_damage.pipeline import ForgetReport, ForgetRequest
from car_damage.ports import Platform
from car_damage.stage import silent
from car_damage.stages.forget import STAGE
from car_damage.traces import certificate

_PREFECT = (
    "Artifacts in Prefect may still show the photo, and no training was started: the deployment forget does both, with the parameter "
    "photo=mark:{}"
)


def forget(platform: Platform, photo: str, by: str, output: Path, say: Callable[[str], None]) -> ForgetReport:
    """Forget a photo, write the certificate into a folder, and print it.

    Raises:
        RequestRefused: the photo is neither a file nor a SHA-256, or only jobs can write to the tables.
    """
    if platform.settings.databricks.stages == "jobs":
        raise RequestRefused("only jobs in Databricks can write to the tables: run the deployment forget in Prefect, which starts one")
    sha256, _ = named_photo(photo)
    report = STAGE.run(ForgetRequest("", mark_of(sha256), by), platform, silent)
    for name, data in zip(certificate.names(report), (certificate.document(report), certificate.page(report)), strict=True):
        (output / name).write_bytes(data)
    for trace in report.found:
        say(printable(f"{trace.place}: {trace.what}, {trace.items:,}: {trace.stays or 'removed'}"))
    for line in certificate.lines(report):
        say(printable(line))
    say(f"certificate: {' and '.join(str(output / name) for name in certificate.names(report))}")
    say(_PREFECT.format(report.mark))
    return report
