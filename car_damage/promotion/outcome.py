"""How a run of the pipeline ended, as a name and one sentence that needs no explanation."""

from dataclasses import dataclass

from car_damage.moves import ROLLBACK
from car_damage.pipeline import AWAIT, KEEP, PROMOTE, EndpointReport, LiveReport, RegisterReport, ScoreReport, SilverReport, ValidateReport


@dataclass(frozen=True)
class Outcome:
    """A named ending of a run that did not fail."""

    name: str
    """Of retrain: Promoted | Kept the champion | Not promoted (and there is no champion) | Awaiting approval | Nothing new |
    Dry run. Of promote: Promoted | Rolled back | Already live. Of score: Scored | Nothing new"""
    message: str


def nothing_new(validated: ValidateReport, silver: SilverReport, live: LiveReport) -> Outcome:
    """Nothing is left to do: said before anything expensive starts."""
    landed = f"{_count(validated.new, 'new file')}, none of which changed the training photos" if validated.new else "No new photos"
    serving = f"version {live.champion} goes on serving" if live.champion else "no version is live"
    if live.awaiting:
        serving += f"; version {live.decided} still waits for a person's approval: {approve(live.decided or 0)}"
    name = "Awaiting approval" if live.awaiting else "Nothing new"
    return Outcome(name, f"{landed}: {_count(silver.rows, 'training photo')} as before, and {serving}.{_unread(validated)}")


def dry_run(validated: ValidateReport, registered: RegisterReport) -> Outcome:
    """Everything but the change of what is live."""
    would = {PROMOTE: "would go live", AWAIT: "would wait for a person's approval", KEEP: "would not go live"}[registered.decision]
    return Outcome(
        "Dry run",
        f"Version {registered.version} {would}: {'; '.join(registered.reasons)}. What is live was not changed.{_unread(validated)}",
    )


def after_endpoint(validated: ValidateReport, registered: RegisterReport, endpoint: EndpointReport) -> Outcome:
    """The ending of a run that went through all stages."""
    if endpoint.outcome == "promoted":
        # A run that was killed may have left its challenger to this one.
        mine = registered.version == endpoint.champion and not endpoint.by_person
        return _went_live(endpoint, "; ".join(registered.reasons) if mine else f"decided earlier: {endpoint.reason}", _unread(validated))
    name = "Kept the champion" if endpoint.champion else "Not promoted"
    if endpoint.outcome == "kept":
        return Outcome(name, f"{_sentence(endpoint.message)}{_unread(validated)}")
    serving = f"version {endpoint.champion} goes on serving" if endpoint.champion else "no version is live"
    if endpoint.outcome == "repaired":
        serving = f"the endpoint was put back to version {endpoint.champion}"
    version = f"Version {registered.version}"
    if registered.version == endpoint.champion:
        told = f"{version} is the champion already"
    elif registered.decision == AWAIT and registered.champion == endpoint.champion:
        name, told = "Awaiting approval", f"{version} may go live: {'; '.join(registered.reasons)}"
        serving += f"; to take the version live: {approve(registered.version)}"
    elif registered.decision == AWAIT:
        told = f"{version} was judged against a champion that is none any more; judge_again asks anew"
    elif registered.decision == PROMOTE:
        told = f"{version} was decided for and is not meant to go live any more: it was refused, or a person decided otherwise"
    else:
        told = f"{version} does not go live: {'; '.join(registered.reasons)}"
    return Outcome(name, f"{told}; {serving}.{_unread(validated)}")


def after_promote(endpoint: EndpointReport) -> Outcome:
    """The ending of a person's promotion or rollback that was not refused."""
    if endpoint.outcome != "promoted":
        return Outcome("Already live", f"Version {endpoint.champion} is the champion; {endpoint.message}.")
    return _went_live(endpoint, endpoint.reason)


def after_score(report: ScoreReport) -> Outcome:
    """The ending of a run that asked a version about photos."""
    asked = report.scored + report.refused
    if not report.found:
        return Outcome("Nothing new", f"There is no photo in {report.source}.")
    if not asked and not report.unreadable_count:
        return Outcome(
            "Nothing new", f"Version {report.version} has been asked about all {_count(report.found, 'photo')} of {report.source}."
        )
    by_label = ", ".join(f"{photos:,} {label}" for label, photos in report.labels.items())
    told = f"Version {report.version} on {_count(report.scored, 'photo')} of {report.source}{': ' if by_label else ''}{by_label}."
    if report.refused:
        path, why = next(iter(report.examples.items()))
        told += f" {_count(report.refused, 'file')} it took for no photo, such as {path} ({why})."
    return Outcome("Scored", told + _unread(report))


def _went_live(endpoint: EndpointReport, why: str, more: str = "") -> Outcome:
    name = "Rolled back" if endpoint.kind == ROLLBACK else "Promoted"
    instead = f" in place of version {endpoint.previous}" if endpoint.previous else ""
    return Outcome(name, f"Version {endpoint.champion} is live{instead}: {why.rstrip('.')}.{more}")


def approve(version: int) -> str:
    """The command by which a person takes a version live."""
    return f'.venv/bin/python -m flows.promote --version {version} --reason "<why>"'


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _unread(report: ValidateReport | ScoreReport) -> str:
    if not report.unreadable_count:
        return ""
    return f" {_count(report.unreadable_count, 'file')} could not be read and will be tried again, such as {report.unreadable[0]}."
