"""The gate: process.py is its loop, obey.py what people order of it, published.py its metrics, view.py its words."""

from consumers.gate.process import Gate
from consumers.gate.view import decision_tree

__all__ = ["Gate", "decision_tree"]
