"""Raw layout of Fashion-20. Its class names are not known outside its archive; these are invented."""

from tests.miniature.box import Box, miniature

TASKS = {
    "pants type": ("jeans", "suit pants", "leggings", "cargo pants"),
    "pants length": ("shorts", "cropped pants", "long pants"),
    "waist type": ("high waist", "middle waist", "low waist"),
    "collar type": ("round collar", "v collar", "turtle neck", "shirt collar", "square collar", "hood"),
    "sleeve type": ("puff sleeve", "flared sleeve", "raglan sleeve", "straight sleeve", "batwing sleeve"),
    "sleeve length": ("sleeveless", "short sleeve", "half sleeve", "long sleeve"),
    "top pattern": ("plain", "striped", "plaid", "dotted", "floral", "printed letters"),
    "shoe material": ("leather", "suede", "canvas", "mesh"),
    "shoe style": ("sneaker", "boot", "sandal", "loafer", "slipper"),
    "heel shape": ("stiletto", "block heel", "wedge", "flat"),
    "heel thickness": ("thin heel", "thick heel"),
    "heel height": ("flat heel", "low heel", "high heel"),
    "upper height": ("low top", "mid top", "high top"),
    "toe cap style": ("round toe", "pointed toe", "square toe", "open toe"),
    "hat style": ("baseball cap", "bucket hat", "beret", "knitted hat", "straw hat"),
    "socks length": ("no-show socks", "ankle socks", "knee socks"),
    "socks type": ("cotton socks", "stockings", "tights"),
    "skirt length": ("mini skirt", "knee skirt", "midi skirt", "long skirt"),
    "number of button rows": ("single breasted", "double breasted", "no buttons"),
    "underwear style": ("briefs", "boxers", "thong", "long johns"),
}


@miniature("Fashion20", "fashion20")
def fashion20(box: Box) -> None:
    """Folders of numbers, task by class, and a table of four columns that are parted by tabulators."""
    lines = ["task_id\ttask_name\ttask_desc\tclass_names"]
    for task, (name, classes) in enumerate(TASKS.items()):
        lines.append(f"{task}\t{name}\tclassify {name}\t{','.join(classes)}")
        for label in box.some(range(len(classes))):
            for number in range(1, box.per_class + 1):
                box.picture(f"images/{task}/{label}/{number}.jpg", f"{name}: {classes[label]}")
    box.text("task_info.csv", lines)
