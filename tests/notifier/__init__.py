"""The notifier: what is told, to whom, and that it arrives."""
