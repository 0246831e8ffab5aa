"""The methods, one file each, which the registry finds."""
