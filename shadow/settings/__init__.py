"""The configuration, shadow.yaml: one module per section, read and checked as a whole by `load`."""

from shadow.settings.loader import load
from shadow.settings.settings import Settings

__all__ = ["Settings", "load"]
