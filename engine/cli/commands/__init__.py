"""One file a command, found by `engine.cli.registry`: the file's name is the command's.

A file has `add(commands, common)`: it adds its parser (parents=[common]) and sets `run(options) -> exit status`. What
the work needs is imported where the work is done: `shapewright --help` loads none of it.
"""
