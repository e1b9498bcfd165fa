"""The errors by which stages, commands and ports say what is wrong, as one tree.

CarDamageError
├── Transient                 temporary: a task retries it, with backoff and jitter
│   ├── CommitConflict        another writer committed to the same table first
│   ├── Unavailable           a service, a folder or a file did not answer in time
│   │   └── FileMissing       a file is not there: it was removed, or nobody has written it yet
│   └── UpdateInProgress      the endpoint is still busy with an earlier update
└── Terminal                  permanent: never retried, the message says what to do
    ├── SettingsError         a setting is unknown, missing or out of its range
    │   ├── WorkspaceIncomplete  the workspace lacks something that the service's set-up makes there
    │   └── WeightsMissing    the weights of a backbone cannot be had
    ├── UnusablePhoto         these bytes cannot be used as a photo; carries a reason
    ├── LandingLost           far more photos vanished from the landing folder than is plausible
    ├── PhotoChanged          a photo's bytes have changed since it was validated
    ├── TooFewPhotos          the silver table has too few photos to train or judge a model
    ├── ModelRefused          a model does not load or answer in a process of its own
    ├── PromotionRefused      a version that a person chose must not replace the champion
    ├── RegistryError         the model registry refused a call or contradicts itself
    ├── RequestRefused        a service refused a request permanently (token, permission, name)
    │   └── PhotoRefused      a photo cannot be read, or the endpoint refuses it
    ├── UpdateFailed          the endpoint could not serve the requested version
    └── UnexpectedError       anything else that a stage raised; its traceback is worth reading

An error takes one argument, its message, so that it survives being stored and read back. This module is
part of every registered model (see served_model), so it imports nothing.
"""


class CarDamageError(Exception):
    """The base class of these errors. Others never leave their room: what the endpoint server answers, and what doctor finds."""


class Transient(CarDamageError):
    """A temporary failure. A later retry may succeed."""


class Terminal(CarDamageError):
    """A permanent failure. Retrying is useless; the message says what to do."""


class CommitConflict(Transient):
    """Another writer committed to the table after we read it and before we wrote it."""


class Unavailable(Transient):
    """A service, a folder or a file did not answer, or is temporarily unable to."""

    retry_after: float = 0.0
    """Seconds that the service asks to wait before the next try."""


class FileMissing(Unavailable):
    """A file is not there. It was removed, or nobody has written it yet."""


class UpdateInProgress(Transient):
    """An earlier update kept the endpoint busy for longer than we wait."""


class SettingsError(Terminal):
    """A setting is unknown, missing or out of its range. The message names it and what is allowed."""


class WorkspaceIncomplete(SettingsError):
    """The Databricks workspace lacks something that the service's set-up makes there, or has it from other code."""


class WeightsMissing(SettingsError):
    """The weights of the backbone that the settings name cannot be had: its file is not there, or they cannot be downloaded."""


class UnusablePhoto(Terminal):
    """The bytes cannot be used as a photo. The message is the reason, or `reason: detail`."""

    @property
    def reason(self) -> str:
        """One of `car_damage.photo.reasons.REASONS`."""
        return str(self).partition(": ")[0]


class LandingLost(Terminal):
    """More photos vanished from the landing folder at once than `landing.max_vanished_share` allows."""


class PhotoChanged(Terminal):
    """A photo's bytes differ from the validated ones. The next run validates the file again."""


class TooFewPhotos(Terminal):
    """The silver table holds too few photos, or too few classes, to train or judge a model."""


class ModelRefused(Terminal):
    """A model does not load, or does not classify a photo, in a process that has imported none of our code."""


class PromotionRefused(Terminal):
    """A version that a person chose must not replace the champion, or can no longer do so. The live version has not changed."""


class RegistryError(Terminal):
    """The model registry refused a call, or its contents contradict each other."""


class RequestRefused(Terminal):
    """A service refused a request, and will refuse it again: wrong token, missing permission, unknown name."""


class PhotoRefused(RequestRefused):
    """One of the photos of a request cannot be read, or the endpoint refuses it. Others may be answered without it."""


class UpdateFailed(Terminal):
    """The endpoint could not serve the requested version. The message contains the end of its build log."""


class UnexpectedError(Terminal):
    """A stage raised something other than a CarDamageError. Of this tree, only its traceback is worth reading."""
