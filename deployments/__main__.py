"""`python -m deployments`: what a person does to have the service run somewhere."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from car_damage.errors import CarDamageError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Run the service somewhere.")


@app.callback()
def _root() -> None:
    """Keeps the commands' names, however many there are."""


@app.command("demo")
def demo_command(
    images: Annotated[Path | None, typer.Option(help="A folder of labelled photos. Without it, photos are drawn.")] = None,
) -> None:
    """Run the whole pipeline once on this machine, and ask the endpoint about one photo."""
    from deployments.demo import demo

    demo(images)


@app.command("bootstrap")
def bootstrap_command() -> None:
    """Make on the Prefect server what the flows rely on. Run twice, it changes nothing the second time."""
    from deployments.bootstrap import bootstrap

    for result in bootstrap():
        print(f"{result.name}: {'as it should be' if result.problem is None else f'{result.problem}: mended'}")


def main() -> int:
    """Run a command; an error of ours is one line, not a traceback."""
    try:
        app(standalone_mode=False)
    except CarDamageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
