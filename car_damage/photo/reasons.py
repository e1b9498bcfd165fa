"""The reasons why a file is not used: a closed list, so that code that counts or explains rejected files covers all of them.

Every registered model contains a copy of this module, so it imports nothing.
"""

EMPTY = "empty"
NOT_AN_IMAGE = "not an image"
UNSUPPORTED_FORMAT = "unsupported format"
TRUNCATED = "truncated"
CORRUPT = "corrupt"
TOO_SMALL = "too small"
TOO_MANY_PIXELS = "too many pixels"
TOO_MANY_BYTES = "too many bytes"
NO_LABEL = "no label"
UNKNOWN_LABEL = "unknown label"
DUPLICATE = "duplicate"
CONFLICTING_LABELS = "conflicting labels"
AMBIGUOUS_SPLIT = "ambiguous split"
NOT_A_CAR = "not a car"
CANNOT_TELL = "cannot tell"
FORGOTTEN = "forgotten"

PHOTO_REASONS = frozenset({EMPTY, NOT_AN_IMAGE, UNSUPPORTED_FORMAT, TRUNCATED, CORRUPT, TOO_SMALL, TOO_MANY_PIXELS, TOO_MANY_BYTES})
"""Reasons that depend on the bytes of one photo."""
LABEL_REASONS = frozenset({NO_LABEL, UNKNOWN_LABEL})
"""Reasons that depend on a photo's path."""
SET_REASONS = frozenset({DUPLICATE, CONFLICTING_LABELS, AMBIGUOUS_SPLIT})
"""Reasons that depend on the other photos."""
REVIEW_REASONS = frozenset({NOT_A_CAR, CANNOT_TELL})
"""Reasons that a person gave, who looked at the photo."""
REASONS = PHOTO_REASONS | LABEL_REASONS | SET_REASONS | REVIEW_REASONS | {FORGOTTEN}
"""Every reason why a file is not used. `forgotten` is a person's decision."""
