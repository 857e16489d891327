"""Graders: rules on one answer, one file each. `build` makes them of their specifications."""

from shadow.graders.grader import GRADERS, Graded, Grader, build

__all__ = ["GRADERS", "Graded", "Grader", "build"]
