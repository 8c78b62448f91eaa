"""What is typed: arguments, groups and keys, and what is said where they do not compose."""
