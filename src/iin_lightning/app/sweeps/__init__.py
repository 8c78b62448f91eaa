"""Many runs of one command: their failures, and the table that they end in."""
