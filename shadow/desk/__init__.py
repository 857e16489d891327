"""The human desk: which requests people are asked, and how their answers come into the log."""
