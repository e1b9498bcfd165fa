"""The console script `car-damage`.

This module imports nothing heavy, so `--help` is fast and `validate` needs only the base install. A CarDamageError ends
any command with its message on stderr and exit code 1, without a traceback.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from car_damage import __version__
from car_damage.commands.terminal import Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"car-damage {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Severity of car damage from a photo."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A file name that the terminal's encoding cannot show is escaped. Otherwise printing it would fail.
            stream.reconfigure(errors="backslashreplace")


@app.command()
def validate(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Folder of photos; every file below it is checked. By default the landing folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and file, in the order of checking.")] = False,
    labels: Annotated[bool, typer.Option(help="Reject photos without a known class, as the pipeline does.")] = True,
) -> None:
    """Check every photo below DIR as the pipeline does, without reading or writing tables.

    The exit code is 1 if a file could not be read. It is 0 if photos were rejected.
    """
    from car_damage.commands.validate import validate as run
    from car_damage.settings_sources import load

    settings = load()
    run(settings, folder or Path(settings.landing.folder), as_json, labels)


@app.command()
def predict(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photo files; they are sent in one request.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and photo.")] = False,
    claim: Annotated[bool, typer.Option("--claim", help="The photos are those of one claim: also print what they say together.")] = False,
) -> None:
    """Send photos to the endpoint and print its predictions."""
    from car_damage.commands.predict import predict as run
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    run(Target(load()), photos, as_json, typer.echo, claim=claim)


@app.command()
def explain(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="Photo file.")],
    output: Annotated[Path | None, typer.Option(help="The picture to write; by default _PHOTO-explained.jpg beside it.")] = None,
) -> None:
    """Ask the endpoint about a photo, and write a picture of where it sees the damage."""
    from car_damage.commands.explain import explain as run
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    run(Target(load()), photo, output, typer.echo)


@app.command()
def review(
    photo: Annotated[str | None, typer.Argument(metavar="[SHA256|PHOTO]", help="A photo, by its SHA-256 or its file.")] = None,
    label: Annotated[str | None, typer.Argument(metavar="[LABEL]", help="A class, not_a_car, cannot_tell, or undone.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who says it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show which photos wait for a person, or what was said about one; or say what a photo shows.

    The next run of retrain takes a word up, and a person's label counts before the folder's.
    """
    from car_damage.commands import review as run
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    target = Target(load())
    if photo is None:
        run.waiting(target, as_json, typer.echo)
    elif label is None:
        run.show(target, photo, as_json, typer.echo)
    elif by is None:
        raise typer.BadParameter("a word needs the name of who says it: --by NAME")
    else:
        run.take(target, photo, label, by, typer.echo)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder for the copy; it must not exist yet.")],
) -> None:
    """Copy the home folder, also while runs go on. The copy can be used as a home folder, at any path."""
    from car_damage.commands.backup import backup as run
    from car_damage.settings_sources import load

    run(load(), folder, typer.echo)


@app.command()
def audit(
    photo: Annotated[str, typer.Argument(metavar="SHA256|PHOTO", help="A photo, by its SHA-256 or its file.")],
    replay: Annotated[bool, typer.Option("--replay", help="Ask the versions that have answered once more, and compare.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show all that is known of a photo: files, answers, versions with their data and decisions, and what people have said.

    The exit code is 1 if an answer that was replayed is not the same.
    """
    from car_damage.commands.audit import audit as run
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    if not run(Target(load()), photo, replay, as_json, typer.echo):
        raise typer.Exit(1)


@app.command()
def forget(
    photo: Annotated[str, typer.Argument(metavar="SHA256|PHOTO", help="A photo, by its SHA-256 or its file.")],
    output: Annotated[Path, typer.Option(help="The folder for the certificate.", exists=True, file_okay=False)] = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove all that is known of a photo, and all earlier versions of the tables, for good. It is never taken up again.

    Run it while no flow run is in progress: the deployment forget waits for them. It also removes what Prefect shows of the photo, and
    can start a training without it, which this command does not.
    """
    from car_damage.adapters.mlflow.provenance import user
    from car_damage.commands.forget import forget as run
    from car_damage.commands.review import named_photo
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    sha256, _ = named_photo(photo)  # a wrong name is told before the question
    if not yes:
        typer.confirm(f"Remove all that is known of the photo {photo}, and all earlier versions of the tables, for good?", abort=True)
    run(Target(load()), sha256, user(), output, typer.echo)


@app.command()
def serve() -> None:
    """Run the local endpoint server until Ctrl-C.

    It has the Databricks serving REST API.
    """
    from car_damage.platform import Target
    from car_damage.server.command import serve as run
    from car_damage.settings_sources import load

    target = Target(load())
    _ = target.home  # the server fetches models by MLflow's locations
    run(target.settings, target.files, target.clock, typer.echo)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of moves, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and move.")] = False,
) -> None:
    """Show promotions and rollbacks: when, from which version to which, by whom, and why."""
    from car_damage.commands.history import history as run
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    run(Target(load()), limit, as_json, typer.echo)


@app.command()
def status() -> None:
    """Show tables, champion, endpoint and latest runs."""
    from car_damage.commands.status import status as run
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    run(Target(load()))


@app.command()
def tidy(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what can be removed, with its size, and remove nothing.")] = False,
) -> None:
    """Remove old versions of tables, and what else no run, rollback or audit needs.

    The flow retrain does so at its end. There it also keeps the training of the present photos, and removes old pictures in the Prefect UI.
    """
    from car_damage.commands.tidy import tidy as run
    from car_damage.job.handover import remove_old
    from car_damage.platform import Target
    from car_damage.settings_sources import load

    target = Target(load())
    hand_overs = remove_old(target.handovers, target.settings, target.clock.now(), dry_run=dry_run)
    run(target, dry_run, hand_overs, typer.echo)


if __name__ == "__main__":
    app()
