"""LightningModules: autoencode, classify, interpret, evaluate."""
