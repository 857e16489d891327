"""What is told to the outside of Shadow, and to whom it may be told. Pure."""
