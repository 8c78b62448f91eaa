"""Everything that knows Hydra and loggers: from a configuration to a finished run folder.

``command`` starts and ends every command. ``console`` reads what is typed, ``runs`` trains, ``sweeps`` keeps failures
of jobs apart, ``analyses`` and ``measures`` ask, ``reporting`` and ``explore`` show; what several of them need lies
beside them: ``subject`` (a model with its data), ``results``, ``paths``, ``ranks``, ``loggers``, ``trust``.
"""
