"""The rendered world behind the embedded demo: drawing, the images of Demo6, and pre-training pairs.

``canvas`` draws, ``outlines`` defines shapes, ``fields`` arrangements and patterns; ``suite`` makes the data sets of
Demo6, ``pretrain`` makes image-caption pairs in another style, ``sheet`` shows pictures to people.
"""
