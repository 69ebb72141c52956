"""The miner's side of a job's life: what it takes on, runs, releases, has paid, and can show for it."""
