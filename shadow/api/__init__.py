"""HTTP dialects of the gate's admin port."""
