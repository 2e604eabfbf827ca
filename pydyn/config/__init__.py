"""Typed, validated configuration. Imports no torch."""
