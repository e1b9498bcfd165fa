"""Every error that this project raises, as one tree.

CarDamageError
├── Transient                 may pass by itself: a task retries it, with backoff and jitter
│   ├── CommitConflict        another writer committed to the same table first
│   ├── Unavailable           a service, a folder or a file did not answer in time
│   └── UpdateInProgress      the endpoint is still busy with an earlier update
└── Terminal                  will not pass by itself: never retried, the message says what to do
    ├── SettingsError         a setting is unknown, missing or out of its range
    ├── UnusablePhoto         these bytes cannot be used as a photo; carries a reason
    ├── LandingLost           far more photos vanished from the landing folder than is plausible
    ├── PhotoChanged          a photo is no longer the one that was validated
    ├── TooFewPhotos          the silver table cannot train or judge a model
    ├── ModelRefused          a model does not load or answer in a process of its own
    ├── PromotionRefused      a version that a person asked for must not take the champion's place
    ├── RegistryError         the model registry refused or contradicts itself
    ├── RequestRefused        a service refused a request for good (token, permission, name)
    ├── UpdateFailed          the endpoint could not serve the version that it was asked to
    └── Unforeseen            anything else that a stage raised; its traceback is worth reading

An error takes one argument, its message, so that it survives being stored and read back. This module is
part of every registered model (see served_model), so it imports nothing.
"""


class CarDamageError(Exception):
    """The root. Catch it to catch everything that this project raises on purpose."""


class Transient(CarDamageError):
    """May pass by itself; worth another try after a while."""


class Terminal(CarDamageError):
    """Will not pass by itself; the message says what to do."""


class CommitConflict(Transient):
    """Another writer committed to the table between our reading it and our writing it."""


class Unavailable(Transient):
    """A service, a folder or a file did not answer, or answered that it cannot right now."""


class UpdateInProgress(Transient):
    """The endpoint is busy with an earlier update, longer than we were willing to wait."""


class SettingsError(Terminal):
    """A setting is unknown, missing or out of its range. The message names it and what is allowed."""


class UnusablePhoto(Terminal):
    """These bytes cannot be used as a photo. The message is the reason, or `reason: detail`."""

    @property
    def reason(self) -> str:
        """One of `car_damage.reasons.REASONS`."""
        return str(self).partition(": ")[0]


class LandingLost(Terminal):
    """More photos vanished from the landing folder at once than `landing.max_vanished_share` allows."""


class PhotoChanged(Terminal):
    """A photo's bytes are not those that were validated. The next run takes the file up again."""


class TooFewPhotos(Terminal):
    """The silver table holds too few photos, or too few classes, to train or judge a model."""


class ModelRefused(Terminal):
    """A model does not load, or does not answer one photo, in a process that has imported none of our code."""


class PromotionRefused(Terminal):
    """A version that a person asked for must not, or cannot any more, take the champion's place. What is live has not changed."""


class RegistryError(Terminal):
    """The model registry refused a call, or says two things that cannot both be true."""


class RequestRefused(Terminal):
    """A service refused a request for good: wrong token, missing permission, no such name."""


class UpdateFailed(Terminal):
    """The endpoint could not serve the version that it was asked to. Carries the end of its build log."""


class Unforeseen(Terminal):
    """A stage raised something that is no CarDamageError. The only one of this tree whose traceback is worth reading."""
