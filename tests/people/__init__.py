"""People at the gate, through the command line and Alertmanager."""
