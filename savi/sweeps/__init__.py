"""Many runs as one sweep: its plan, its jobs and its summary."""
