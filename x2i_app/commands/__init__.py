"""The commands of the command line: each is a dataclass of its options and a method that runs it."""
