"""`python -m deployments`: commands that set up, run and check the service."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from car_damage.commands.terminal import Commands

if TYPE_CHECKING:
    from car_damage.settings import Settings

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


OwnCredentials = Annotated[
    bool,
    typer.Option("--own-credentials", help="Use the Databricks credentials of this environment instead of those in the block."),
]


@app.callback()
def _root() -> None:
    """Set up, run and check the service."""


@app.command("demo")
def demo_command(
    images: Annotated[Path | None, typer.Option(help="A folder of labelled photos. By default the demo draws photos.")] = None,
) -> None:
    """Run the whole pipeline once on this machine, and classify one photo with the endpoint."""
    from deployments.demo import demo

    _stop_cleanly()
    demo(images)


@app.command("up")
def up_command() -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from deployments.up import up

    _stop_cleanly()
    up()


@app.command("down")
def down_command() -> None:
    """Stop what a killed `up` left running."""
    from deployments.up import down

    down()


@app.command("bootstrap")
def bootstrap_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be created or changed.")] = False,
    credentials_block: Annotated[
        bool,
        typer.Option("--credentials-block", help="Save this environment's credentials in the block that databricks.credentials names."),
    ] = False,
    own_credentials: OwnCredentials = False,
    wheel_only: Annotated[
        bool,
        typer.Option(
            "--wheel-only",
            help="Only upload the wheel of the jobs, and print its path for `databricks bundle deploy --var wheel=`. "
            "With --dry-run, only print the path.",
        ),
    ] = False,
) -> None:
    """Create what the flows need on the Prefect server, and in Databricks if stages run there. A second run changes nothing."""
    from deployments.bootstrap import everything, reach_server
    from deployments.databricks import credentials_block as block
    from deployments.databricks.workspace_checks import sign_in
    from deployments.items import apply
    from tasks.workspace import use_credentials

    settings = _settings()
    if wheel_only:
        _wheel_only(settings, dry_run=dry_run, own_credentials=own_credentials)
        return
    reach_server()
    saved = True
    if credentials_block:
        item = block.item(settings)
        sign_in(settings)  # so that credentials that do not work never overwrite a block that works
        saved = apply([item], dry_run=dry_run)
    # A dry run creates no block, so the environment's credentials stand in for it.
    if not own_credentials and not (credentials_block and dry_run):
        use_credentials(settings.databricks.credentials)
    if settings.databricks.stages == "jobs":
        _, account = sign_in(settings)  # so that wrong credentials fail once, and not at each item
        jobs = "" if settings.databricks.service_principal else "; the jobs run as you: databricks.service_principal is not set"
        print(f"in Databricks as {account}{jobs}")
    raise typer.Exit(not (apply(everything(settings), dry_run=dry_run) and saved))


@app.command("deploy")
def deploy_command() -> None:
    """Deploy prefect.yaml to the Prefect server, and retire deployments and schedules that it does not contain."""
    from deployments import deploy
    from deployments.bootstrap import server_url

    _settings()
    server_url()
    before = deploy.check()
    deploy.deploy()
    print(f"deployments: {before or 'already up to date'}: deployed")


@app.command("doctor")
def doctor_command(own_credentials: OwnCredentials = False) -> None:
    """Check everything that a run needs and say what to do; repairs nothing. Exit code 1 when a run would fail."""
    from rich.console import Console
    from rich.markup import escape

    from car_damage.platform import Target
    from deployments.doctor import FAIL, doctor

    settings = _settings()
    if own_credentials:
        settings = settings.model_copy(update={"databricks": settings.databricks.model_copy(update={"credentials": None})})
    terminal = Console(stderr=True)
    with terminal.status("checking") if terminal.is_terminal else contextlib.nullcontext() as shown:
        looking = (lambda name: shown.update(f"checking {escape(name)}")) if shown else (lambda _: None)
        findings = doctor(settings, Target(settings), looking)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.state:4}  {finding.name:{width}}  {finding.detail}")
    raise typer.Exit(any(finding.state == FAIL for finding in findings))


@app.command("smoke")
def smoke_command(
    endpoint: Annotated[
        bool, typer.Option("--endpoint", help="Also create an endpoint: up to an hour, and it costs while it is up.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="The folder for the report.")] = Path(),
    own_credentials: OwnCredentials = False,
) -> None:
    """Try the calls of the service once in a Databricks workspace, remove what it made, and write a report without secrets."""
    from deployments.smoke.command import smoke
    from tasks.workspace import use_credentials

    settings = _settings()
    use_credentials(None if own_credentials else settings.databricks.credentials)
    _stop_cleanly()
    raise typer.Exit(not smoke(settings, folder, endpoint=endpoint).succeeded)


@app.command("watch")
def watch_command() -> None:
    """Watch the landing folder of this machine, and start a run as soon as new photos have landed there."""
    from deployments.bootstrap import server_url
    from deployments.watch import watch

    settings = _settings()
    server_url()
    watch(settings)


@app.command("env")
def env_command() -> None:
    """Print the variables with which `prefect` uses the server of `make up`: eval "$(.venv/bin/python -m deployments env)"."""
    from car_damage.errors import Terminal
    from car_damage.settings_sources import load
    from deployments.variables import assignments
    from tasks.local_server import variables

    home = load().home
    if not (found := variables(home)):
        raise Terminal(f"no Prefect server is running with {home}: start one with `make up`")
    print(f"export {assignments(found)}")


def _wheel_only(settings: "Settings", *, dry_run: bool, own_credentials: bool) -> None:
    """Standard output has the path alone, so that a shell can keep it in a variable."""
    from deployments.databricks.needs import deliver_wheel, wheel_path
    from tasks.workspace import use_credentials

    if not dry_run:
        if not own_credentials:
            use_credentials(settings.databricks.credentials)
        if why := deliver_wheel(settings):
            typer.echo(why, err=True)
    print(wheel_path(settings))


def _settings() -> "Settings":
    """The settings. From here on this process uses the Prefect server of `make up`, unless another one is set."""
    from car_damage.settings_sources import load
    from tasks import local_server

    settings = load()
    local_server.use(settings.home)
    return settings


def _stop_cleanly() -> None:
    """Handle SIGTERM and SIGHUP like Ctrl-C: stop every process that was started."""
    ends = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def end(received: int, _: object) -> None:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
        with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal
            os.write(2, b"\nstopping all processes\n")  # not print, which the signal may have interrupted
        sys.exit(128 + received)

    for number in ends:
        signal.signal(number, end)


if __name__ == "__main__":
    app()
