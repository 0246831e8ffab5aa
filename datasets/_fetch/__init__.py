"""Downloading the published data sets: addresses, downloads, archives."""
