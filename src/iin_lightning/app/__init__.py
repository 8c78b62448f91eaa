"""Everything that knows Hydra and loggers: from a configuration to a finished run folder."""
