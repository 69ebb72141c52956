"""A package of the user's."""

WORD = "package"
