"""What the console script does: one module a command, imported when it is called."""
