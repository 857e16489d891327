"""The gate: process.py is its loop, obey.py what people order of it, published.py what its metrics show."""

from consumers.gate.process import Gate, decision_tree

__all__ = ["Gate", "decision_tree"]
