"""Errors, console, files, downloads: what every other package stands on."""
