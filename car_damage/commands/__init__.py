"""Commands of the console script. Each is a module that is imported when the command is called."""
