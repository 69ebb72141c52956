"""Settings that hold for the tests of every room."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes single examples slow, which says nothing about the code; pytest-timeout bounds a whole test.
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
