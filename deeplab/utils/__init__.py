"""Errors, console, files, downloads: the base of every other package."""
