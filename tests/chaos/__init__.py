"""Faults at random moments of a whole stream under load, and the sums that must come out all the same."""
