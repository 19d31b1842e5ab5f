"""What carries the file: each program in a module of its own, all of them `Program`s."""
