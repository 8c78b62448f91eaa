"""One run, from its configuration to its folder: what is trained first, fitted, tested, and how it goes on."""
