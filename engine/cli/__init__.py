"""The command line: `main` reads the arguments, one file in commands/ a command."""
