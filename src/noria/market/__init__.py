"""A job's life: the contracts' words, what is said, and each side of it."""
