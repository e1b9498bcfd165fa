"""Why a file is not used: a closed list, so that everybody who counts or explains rejects knows all of them.

Travels inside every registered model, so it imports nothing.
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
FORGOTTEN = "forgotten"

PHOTO_REASONS = frozenset({EMPTY, NOT_AN_IMAGE, UNSUPPORTED_FORMAT, TRUNCATED, CORRUPT, TOO_SMALL, TOO_MANY_PIXELS, TOO_MANY_BYTES})
"""What the bytes of one photo decide."""
LABEL_REASONS = frozenset({NO_LABEL, UNKNOWN_LABEL})
"""What a photo's name and place decide."""
SET_REASONS = frozenset({DUPLICATE, CONFLICTING_LABELS, AMBIGUOUS_SPLIT})
"""What the photos beside it decide."""
REASONS = PHOTO_REASONS | LABEL_REASONS | SET_REASONS | {FORGOTTEN}
"""Every reason why a file is not used. `forgotten` is a person's decision."""
