"""The deterministic simulation: see `world`."""
