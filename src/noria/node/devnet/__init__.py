"""Networks of real processes on one machine, for development: made, started, watched over, ended."""
