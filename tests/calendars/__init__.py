"""The shipped calendar beside other people's: ``nox -s calendar``."""
