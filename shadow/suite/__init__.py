"""Frozen suites of requests. Pure: what stands in them, how they are drawn, and how two runs over one differ."""
