"""What is typed: arguments, choices and keys, what is trusted of them, and one sentence where they do not compose."""
