"""doctor's check that the champion loads with the packages that are installed here, before the night judges a candidate against it."""

from car_damage.errors import ModelRefused
from car_damage.machine import Scratch
from car_damage.model.served.process import answers
from car_damage.packages import differing, told
from car_damage.ports import Platform


def check(platform: Platform) -> str:
    """Load the champion, if it was made with other packages than those that are here: the start of its process takes some seconds.

    Raises:
        ModelRefused: it does not load. The message says what judging will do, and what a person can do.
    """
    if platform.settings.databricks.stages == "jobs":
        return "not checked here: the jobs load it with their own packages"
    champion = platform.registry.champion()
    if champion is None:
        return "there is none yet"
    different = differing(platform.registry.requirements(champion.uri))
    if not different:
        return f"version {champion.version} was made with the packages that are installed here"
    with Scratch("champion") as folder:
        try:
            answers(platform.registry.download(champion.uri, folder), [], platform.settings.tracking.check_timeout)
        except ModelRefused as error:
            raise ModelRefused(
                f"version {champion.version} was made with {told(different)}, and does not load here. A run judges it in an environment "
                "of its own, for which uv must be installed and reach a package index; a local endpoint server cannot start it. "
                f"Take a version live that was trained with the packages that are here, or install those of this one. {error}"
            ) from error
    return f"version {champion.version} was made with {told(different)}, and loads here"
