"""A requester's side of a job: opening it, giving out units, checking what comes back, paying for it.

Rules are pure and know no clock or socket; `job` and `place` put them to work on an event loop.
"""
