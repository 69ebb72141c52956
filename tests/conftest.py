"""Settings that hold for the tests of every room."""

from __future__ import annotations

from hypothesis import settings

# A busy machine slows single examples, which says nothing about the code; pytest-timeout bounds whole tests.
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
