"""The comparator: process.py is its loop, output.py what it writes to the log, asks.py its questions to services."""

from consumers.comparator.plan import ComparatorPlan, Owned
from consumers.comparator.process import Comparator

__all__ = ["Comparator", "ComparatorPlan", "Owned"]
