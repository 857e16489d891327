"""Graded pairs as examples for people and as data for training: pure functions of records, no clock and no I/O."""
