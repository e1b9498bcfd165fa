"""`python -m deployments`: what a person does to have the service run somewhere."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from car_damage.commands.terminal import Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Run the service somewhere."""


@app.command("demo")
def demo_command(
    images: Annotated[Path | None, typer.Option(help="A folder of labelled photos. Without it, photos are drawn.")] = None,
) -> None:
    """Run the whole pipeline once on this machine, and ask the endpoint about one photo."""
    from deployments.demo import demo

    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C does, so that what was started is stopped.
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    demo(images)


@app.command("bootstrap")
def bootstrap_command() -> None:
    """Make on the Prefect server what the flows rely on. Run twice, it changes nothing the second time."""
    from car_damage.settings import load
    from deployments.bootstrap import everything
    from deployments.items import bootstrap

    for result in bootstrap(everything(load())):
        print(f"{result.name}: {'as it should be' if result.problem is None else f'{result.problem}: put right'}")


if __name__ == "__main__":
    app()
