"""The commands: thin wrappers that read options, call the package and print."""
