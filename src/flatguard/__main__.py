"""``python -m flatguard`` is the console script by another door."""

from flatguard.cli import main

main()
