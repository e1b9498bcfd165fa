"""`python -m deployments`: what a person does to have the service run somewhere."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from car_damage.commands.terminal import Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


OwnCredentials = Annotated[
    bool,
    typer.Option("--own-credentials", help="Ask Databricks as whoever this environment's credentials are, and not as the block's."),
]


@app.callback()
def _root() -> None:
    """Run the service somewhere."""


@app.command("demo")
def demo_command(
    images: Annotated[Path | None, typer.Option(help="A folder of labelled photos. Without it, photos are drawn.")] = None,
) -> None:
    """Run the whole pipeline once on this machine, and ask the endpoint about one photo."""
    from deployments.demo import demo

    _end_in_order()
    demo(images)


@app.command("up")
def up_command() -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from deployments.up import up

    _end_in_order()
    up()


@app.command("down")
def down_command() -> None:
    """End what a killed `up` has left."""
    from deployments.up import down

    down()


@app.command("bootstrap")
def bootstrap_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be made or changed.")] = False,
    credentials_block: Annotated[
        bool,
        typer.Option("--credentials-block", help="Keep this environment's credentials in the block that databricks.credentials names."),
    ] = False,
    own_credentials: OwnCredentials = False,
) -> None:
    """Make what the flows rely on, on the Prefect server, and in Databricks where stages run there. Run twice, it changes nothing more."""
    from car_damage.settings_sources import load
    from deployments.bootstrap import everything, reach_server
    from deployments.databricks import credentials_block as block
    from deployments.databricks.workspace_look import sign_in
    from deployments.items import tell
    from tasks.workspace import use_credentials

    reach_server()
    settings = load()
    well = True
    if credentials_block:
        item = block.item(settings)
        sign_in(settings)  # a block that works is not overwritten by what does not
        well = tell([item], dry_run=dry_run)
    # In a plan the block may not be there yet, and holds, or would, what is in the environment.
    if not own_credentials and not (credentials_block and dry_run):
        use_credentials(settings.databricks.credentials)
    if settings.databricks.stages == "jobs":
        _, told = sign_in(settings)  # or it fails here, once, and not at each thing
        jobs = "" if settings.databricks.service_principal else ", as whom the jobs run too: databricks.service_principal names nobody else"
        print(f"in Databricks as {told}{jobs}")
    raise typer.Exit(not (tell(everything(settings), dry_run=dry_run) and well))


@app.command("deploy")
def deploy_command() -> None:
    """Put what prefect.yaml says on the Prefect server, and take off what it does not say any more."""
    from deployments import deploy
    from deployments.bootstrap import server_url

    server_url()
    before = deploy.look()
    deploy.deploy()
    print(f"deployments: {before or 'were as they should be'}: deployed")


@app.command("doctor")
def doctor_command(own_credentials: OwnCredentials = False) -> None:
    """Look at everything that a run needs, change nothing, and say what to do. Exit code 1 when a run would fail."""
    from car_damage.platform import Target
    from car_damage.settings_sources import load
    from deployments.doctor import FAIL, doctor

    settings = load()
    if own_credentials:
        settings = settings.model_copy(update={"databricks": settings.databricks.model_copy(update={"credentials": None})})
    findings = doctor(settings, Target(settings))
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.state:4}  {finding.name:{width}}  {finding.told}")
    raise typer.Exit(any(finding.state == FAIL for finding in findings))


@app.command("watch")
def watch_command() -> None:
    """Watch the landing folder of this machine, and start a run as soon as new photos have landed."""
    from car_damage.settings_sources import load
    from deployments.bootstrap import server_url
    from deployments.watch import watch

    server_url()
    watch(load())


def _end_in_order() -> None:
    """SIGTERM and SIGHUP do what Ctrl-C does: what was started is stopped."""
    ends = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def end(received: int, _: object) -> None:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not break what the first one ends
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            os.write(2, b"\nending what was started\n")  # print may be what the signal interrupted
        sys.exit(128 + received)

    for number in ends:
        signal.signal(number, end)


if __name__ == "__main__":
    app()
