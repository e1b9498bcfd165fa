"""Where a photo leaves traces: each place finds them, for an audit, and removes them, when a photo is to be forgotten."""
