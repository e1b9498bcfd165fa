"""Adapters of the ports `Files` and `Tables`, one module an engine."""
