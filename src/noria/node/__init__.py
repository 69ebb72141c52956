"""A node: services put together, their life, its log, and checks of the machine that it runs on."""
