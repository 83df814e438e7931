"""What each command takes: arguments, help and examples. Imports nothing heavy."""
