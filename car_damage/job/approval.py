"""The console script `car-damage-approval`: the approval task of the model's deployment job in Databricks.

Databricks starts the job for each new version. The task fails until a person has approved the version on its page, which sets the tag
with the task's name and repairs the run. It only notes the approval: watch-landing reads the same tag, and takes the version live.
Source: https://docs.databricks.com/aws/en/mlflow/deployment-job#approve-the-deployment-job-experimental
"""

import argparse
import logging
import sys

from car_damage.adapters.databricks import registered_model, workspace
from car_damage.errors import PromotionRefused, SettingsError
from car_damage.ports import ModelVersion
from car_damage.promotion.tags import APPROVAL, is_approved

_log = logging.getLogger(__name__)


def check(model: str, version: str) -> None:
    """Return if a person has approved the version.

    Raises:
        PromotionRefused: nobody has.
        RequestRefused, Unavailable: the version cannot be read.
    """
    with workspace.translated(f"reading the tags of version {version} of {model}", needs="EXECUTE on the model"):
        tags = registered_model.version_tags(workspace.client(), model, version)
    if not is_approved(ModelVersion(int(version), "", tags)):
        raise PromotionRefused(
            f"version {version} of {model} is not approved: look at its evidence, then click Approve on its page, or set its tag "
            f"{APPROVAL} to Approved"
        )


def main() -> None:
    """The console script. Raises until the version is approved."""
    parser = argparse.ArgumentParser(prog="car-damage-approval", description="Fail until a person has approved a version of the model.")
    parser.add_argument("--model", required=True, help="catalog.schema.model")
    parser.add_argument("--version", required=True, help="number of the version")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s", force=True)
    if not given.version:
        raise SettingsError("Databricks starts this job for each new version of the model, or by Start deployment job on a version's page")
    check(given.model, given.version)
    _log.info("a person has approved version %s of %s; watch-landing starts promote for it", given.version, given.model)


if __name__ == "__main__":
    main()
