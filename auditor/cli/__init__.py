"""The command line: the one place that prints, reads the environment and exits."""
