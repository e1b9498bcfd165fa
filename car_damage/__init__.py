"""Severity of car damage from a photo: validation, tables, training, registry and serving, without an orchestrator."""

__version__ = "0.1.0"
