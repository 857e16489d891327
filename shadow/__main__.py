"""`python -m shadow` is the command `shadow`."""

from shadow.cli.main import main

main()
