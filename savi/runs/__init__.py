"""Run folders and sweeps: what they are called, who holds them, how they ended."""
