"""One small file for each data set or suite; the registry imports them all.

This file makes the folder a package, so that an installed package of the same name does not hide it.
"""
