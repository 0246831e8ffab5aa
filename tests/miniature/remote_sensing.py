"""Raw layouts of the remote-sensing sets: class folders everywhere, at different depths.

All classes have images, whatever is asked for: the lists of these sets are fixed.
"""

from functools import partial

from tests.miniature.box import Box, known, miniature

# Folder below the data root, folder with the class folders, pattern of the file names.
FLAT = {
    "AID": ("AID", "", "{name}_{number}.jpg"),
    "RESISC45": ("NWPU-RESISC45", "", "{name}_{number:03d}.jpg"),
    "UCM": ("UCMerced_LandUse", "Images", "{name}{number:02d}.tif"),
    "WHURS19": ("WHU-RS19", "", "{name}_{number:02d}.jpg"),
    "RSSCN7": ("RSSCN7", "RSSCN7-master", "{name[0]}{number:03d}.jpg"),
    "PatternNet": ("PatternNet", "images", "{name}{number:03d}.jpg"),
    "OPTIMAL31": ("OPTIMAL-31", "Images", "{name} ({number}).jpg"),
    "SIRIWHU": ("SIRI-WHU", "Google dataset of SIRI-WHU_earth_im_tiff/12class_tif", "{number:04d}.tif"),
    "NaSCTG2": ("NaSC-TG2", "", "{number:04d}.jpg"),
    "MLRSNet": ("MLRSNet", "Images", "{name}_{number:05d}.jpg"),
    "CLRS": ("CLRS", "", "{name}_{number}.tif"),
    "RSC11": ("RS_C11_Database", "", "{name}{number:03d}.tif"),
}
GROUPED = {"RSICB128": "RSI-CB128", "RSICB256": "RSI-CB256"}
# Which class lies in which of these folders does not matter here.
GROUPS = ("construction land", "cultivated land", "transportation", "water area", "woodland")


def flat(box: Box, *, name: str) -> None:
    """One folder a class."""
    _, images, file = FLAT[name]
    box.class_folders(images, known(name, "folders"), file)
    box.clutter(f"{images}/.DS_Store".lstrip("/"), "readme.txt")


def grouped(box: Box, *, name: str) -> None:
    """Folders of classes in folders of groups, as in the official archives of RSI-CB."""
    for position, classname in enumerate(known(name, "folders")):
        box.class_folders(GROUPS[position % len(GROUPS)], [classname], "{name}({number}).tif")


@miniature("RSD46WHU", "RSD46-WHU")
def rsd46(box: Box) -> None:
    """Two parts of class folders."""
    for part in ("train", "val"):
        box.class_folders(part, known("RSD46WHU", "folders"), part + "_{number:05d}.png")


for _name, (_folder, *_) in FLAT.items():
    miniature(_name, _folder)(partial(flat, name=_name))
for _name, _folder in GROUPED.items():
    miniature(_name, _folder)(partial(grouped, name=_name))
