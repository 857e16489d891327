"""The notifier: tells endpoints what stands in `shadow-decisions`, as signed webhooks."""

from consumers.notifier.courier import Courier, Plan
from consumers.notifier.process import Notifier

__all__ = ["Courier", "Notifier", "Plan"]
