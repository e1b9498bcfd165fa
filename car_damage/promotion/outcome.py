"""How a run of a flow ended: a name, and a message that needs no explanation."""

from dataclasses import dataclass, replace

from car_damage.moves import ROLLBACK
from car_damage.pipeline import (
    AWAIT,
    KEEP,
    PROMOTE,
    EndpointReport,
    ForgetReport,
    LiveReport,
    MonitorReport,
    RegisterReport,
    ScoreReport,
    SilverReport,
    TidyReport,
    ValidateReport,
)


@dataclass(frozen=True)
class Outcome:
    """The ending of a run that did not fail."""

    name: str
    """Of retrain: Promoted | Kept the champion | Not promoted (and there is no champion) | Awaiting approval | Nothing new |
    Dry run. Of promote: Promoted | Rolled back | Already live. Of score: Scored | Nothing new. Of monitor: Worse | No alarm |
    Nothing new. Of forget: Forgotten"""
    message: str
    awaiting: int | None = None
    """The version that waits for a person's approval."""


def nothing_new(validated: ValidateReport, silver: SilverReport, live: LiveReport) -> Outcome:
    """There is nothing to do. This ending comes before anything expensive starts."""
    landed = f"{_count(validated.new, 'new file')}, none of which changed the training photos" if validated.new else "No new photos"
    serving = f"version {live.champion} goes on serving" if live.champion else "no version is live"
    waiting = f"; version {live.decided} still waits for a person's approval" if live.awaiting else ""
    message = f"{landed}: {_count(silver.rows, 'training photo')} as before, and {serving}{waiting}.{_unread(validated)}"
    return Outcome("Awaiting approval", message, live.decided) if live.awaiting else Outcome("Nothing new", message)


def dry_run(validated: ValidateReport, registered: RegisterReport) -> Outcome:
    """The run judged a version, and changed nothing that is live."""
    would = {PROMOTE: "would go live", AWAIT: "would wait for a person's approval", KEEP: "would not go live"}[registered.decision]
    return Outcome(
        "Dry run",
        f"Version {registered.version} {would}: {'; '.join(registered.reasons)}. What is live was not changed.{_unread(validated)}",
    )


def after_endpoint(validated: ValidateReport, registered: RegisterReport, endpoint: EndpointReport) -> Outcome:
    """The ending of a run that went through all stages."""
    if endpoint.outcome == "promoted":
        # A run that was killed may have left its challenger to this run.
        mine = registered.version == endpoint.champion and not endpoint.by_person
        return _went_live(endpoint, "; ".join(registered.reasons) if mine else f"decided earlier: {endpoint.reason}", _unread(validated))
    name = "Kept the champion" if endpoint.champion else "Not promoted"
    if endpoint.outcome == "kept":
        return Outcome(name, f"{_sentence(endpoint.message)}{_unread(validated)}")
    serving = f"version {endpoint.champion} goes on serving" if endpoint.champion else "no version is live"
    if endpoint.outcome == "repaired":
        serving = f"the endpoint was put back to version {endpoint.champion}"
    message = f"{_fate(registered, endpoint)}; {serving}.{_unread(validated)}"
    if _awaits(registered, endpoint):
        return Outcome("Awaiting approval", message, registered.version)
    return Outcome(name, message)


def _awaits(registered: RegisterReport, endpoint: EndpointReport) -> bool:
    return registered.decision == AWAIT and registered.champion == endpoint.champion and registered.version != endpoint.champion


def _fate(registered: RegisterReport, endpoint: EndpointReport) -> str:
    """Why the version of this run did not go live."""
    version = f"Version {registered.version}"
    if registered.version == endpoint.champion:
        return f"{version} is the champion already"
    if _awaits(registered, endpoint):
        return f"{version} may go live when a person approves it: {'; '.join(registered.reasons)}"
    if registered.decision == AWAIT:
        return f"{version} was judged against another champion than the present one; run again with judge_again"
    if registered.decision == PROMOTE:
        return f"{version} was decided for, but does not go live: the endpoint refused it, or a person decided otherwise"
    return f"{version} does not go live: {'; '.join(registered.reasons)}"


def after_tidying(ending: Outcome, report: TidyReport) -> Outcome:
    """The same ending, with what tidying has freed."""
    return replace(ending, message=f"{ending.message} {report.bytes / 1e6:,.1f} MB were freed.") if report.bytes else ending


def after_promote(endpoint: EndpointReport) -> Outcome:
    """The ending of a person's promotion or rollback that was not refused."""
    if endpoint.outcome != "promoted":
        return Outcome("Already live", f"Version {endpoint.champion} is the champion; {endpoint.message}.")
    return _went_live(endpoint, endpoint.reason)


def after_score(report: ScoreReport) -> Outcome:
    """The ending of a run that scored photos."""
    seen = report.scored + report.refused
    if not report.found:
        return Outcome("Nothing new", f"There is no photo in {report.source}.")
    if not seen and not report.unreadable_count:
        return Outcome(
            "Nothing new",
            f"Version {report.version} has answered all {_count(report.found, 'photo')} of {report.source}.{_of_claims(report)}",
        )
    by_label = ", ".join(f"{photos:,} {label}" for label, photos in report.labels.items())
    message = f"Version {report.version} on {_count(report.scored, 'photo')} of {report.source}{': ' if by_label else ''}{by_label}."
    if report.refused:
        path, why = next(iter(report.examples.items()))
        message += f" It refused {_count(report.refused, 'file')} as no photo, such as {path} ({why})."
    return Outcome("Scored", message + _unread(report) + _of_claims(report))


def after_monitor(report: MonitorReport) -> Outcome:
    """The ending of a run that looked at the latest requests."""
    name = "Worse" if report.alarm else "No alarm" if report.windows else "Nothing new"
    version = f"Version {report.version}: " if report.begins else ""
    return Outcome(name, f"{version}{report.said}." if version else _sentence(report.said))


def after_forget(report: ForgetReport) -> Outcome:
    """The ending of a run that had a photo forgotten."""
    places = len({trace.place for trace in report.found if not trace.stays})
    message = f"It was removed from {_count(places, 'place')}." if places else "Nothing was known of it."
    if report.files:
        message += f" It still lies at {', '.join(report.files)}, and is not taken up again."
    if report.versions:
        message += f" Trained with it: version {', '.join(map(str, report.versions))}."
    if report.underway:
        message += f" Run this again when {', '.join(report.underway)} has ended."
    return Outcome("Forgotten", message)


def _of_claims(report: ScoreReport) -> str:
    return f" {_count(report.claims, 'claim')}, {report.claims_for_review:,} of them for a person to look at." if report.claims else ""


def _went_live(endpoint: EndpointReport, why: str, more: str = "") -> Outcome:
    name = "Rolled back" if endpoint.kind == ROLLBACK else "Promoted"
    instead = f" in place of version {endpoint.previous}" if endpoint.previous else ""
    return Outcome(name, f"Version {endpoint.champion} is live{instead}: {why.rstrip('.')}.{more}")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _unread(report: ValidateReport | ScoreReport) -> str:
    if not report.unreadable_count:
        return ""
    return f" {_count(report.unreadable_count, 'file')} could not be read and will be tried again, such as {report.unreadable[0]}."
