"""The command line: `main` reads the arguments, one file a command."""
