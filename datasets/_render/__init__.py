"""The rendered world behind the embedded demo: drawing, the images of Demo6, and pre-training pairs.

Needs NumPy and Pillow only. ``canvas`` draws, ``shapes`` knows outlines, arrangements and patterns, ``suite`` makes the
data sets of Demo6, ``pretrain`` makes image-caption pairs in another style, ``sheet`` shows them to people.
"""
