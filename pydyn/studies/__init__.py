"""What Runs a study consists of: configuration in, list of Runs out. Imports no torch."""
