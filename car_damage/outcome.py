"""How a run of the pipeline ended, as a name and one sentence that needs no explanation."""

from dataclasses import dataclass

from car_damage.pipeline import EndpointReport, LiveReport, RegisterReport, SilverReport, ValidateReport
from car_damage.promotion import PROMOTE


@dataclass(frozen=True)
class Outcome:
    """A named ending of a run that did not fail."""

    name: str
    """Promoted | Kept the champion | Not promoted (and there is no champion) | Nothing new | Dry run"""
    message: str


def nothing_new(validated: ValidateReport, silver: SilverReport, live: LiveReport) -> Outcome:
    """Nothing is left to do: said before anything expensive starts."""
    landed = f"{_count(validated.new, 'new file')}, none of which changed the training photos" if validated.new else "No new photos"
    serving = f"version {live.champion} goes on serving" if live.champion else "no version is live"
    return Outcome("Nothing new", f"{landed}: {_count(silver.rows, 'training photo')} as before, and {serving}.{_unread(validated)}")


def dry_run(validated: ValidateReport, registered: RegisterReport) -> Outcome:
    """Everything but the change of what is live."""
    would = "would go live" if registered.decision == PROMOTE else "would not go live"
    return Outcome(
        "Dry run",
        f"Version {registered.version} {would}: {'; '.join(registered.reasons)}. What is live was not changed.{_unread(validated)}",
    )


def after_endpoint(validated: ValidateReport, registered: RegisterReport, endpoint: EndpointReport) -> Outcome:
    """The ending of a run that went through all stages."""
    if endpoint.outcome == "promoted":
        instead = f" in place of version {endpoint.previous}" if endpoint.previous else ""
        # A run that was killed may have left its challenger to this one.
        why = "; ".join(registered.reasons) if registered.version == endpoint.champion else "an earlier run decided for it"
        return Outcome("Promoted", f"Version {endpoint.champion} is live{instead}: {why}.{_unread(validated)}")
    name = "Kept the champion" if endpoint.champion else "Not promoted"
    if endpoint.outcome == "kept":
        return Outcome(name, f"{_sentence(endpoint.message)}{_unread(validated)}")
    serving = f"version {endpoint.champion} goes on serving" if endpoint.champion else "no version is live"
    if endpoint.outcome == "repaired":
        serving = f"the endpoint was put back to version {endpoint.champion}"
    version = f"Version {registered.version}"
    if registered.version == endpoint.champion:
        told = f"{version} is the champion already"
    elif registered.decision == PROMOTE:
        told = f"{version} was taken back or refused since it was decided on"
    else:
        told = f"{version} does not go live: {'; '.join(registered.reasons)}"
    return Outcome(name, f"{told}; {serving}.{_unread(validated)}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _unread(validated: ValidateReport) -> str:
    if not validated.unreadable_count:
        return ""
    return f" {_count(validated.unreadable_count, 'file')} could not be read and will be tried again, such as {validated.unreadable[0]}."
