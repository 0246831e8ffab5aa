"""Scene classification from above: fifteen remote-sensing data sets with one folder a class.

(The sixteenth, EuroSAT, is in ``eurosat.py``.) They have no official split, so they are split 50/20/30 like the plant
data sets. Class lists are declared, because several archives name the same folders differently: case, spaces, hyphens
and underscores do not matter, and neither do folders between the data set's folder and its classes.

Task names, templates and metrics are ours; SoftCPT has published none for these sets.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from dassl.data.dataset import DATASET_REGISTRY
from dassl.data.datum import Split
from dassl.data.raw import FolderDataset, class_images, labelled, split_classes
from dassl.utils.errors import UserError

_SPELT = {
    "baseballdiamond": "baseball diamond",
    "denseresidential": "dense residential",
    "golfcourse": "golf course",
    "mediumresidential": "medium residential",
    "mobilehomepark": "mobile home park",
    "parkinglot": "parking lot",
    "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
    "sandbeach": "sand beach",
    "Lrregular farmland": "irregular farmland",
    "Oiltank": "oil tank",
    "Plasticgreenhouse": "plastic greenhouse",
    "Steelsmelter": "steel smelter",
    "swimmimg pool": "swimming pool",
    "aGrass": "grass",
    "bField": "field",
    "cIndustry": "industry",
    "dRiverLake": "river or lake",
    "eForest": "forest",
    "fResident": "residential",
    "gParking": "parking",
}


def readable(folder: str) -> str:
    """Class name in plain words: ``BareLand`` is "bare land", ``mobilehomepark`` "mobile home park"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _SPELT.get(folder, folder))
    return re.sub(r"[ _-]+", " ", words).lower()


class SceneDataset(FolderDataset):
    """A remote-sensing data set with a declared list of class folders.

    Class attributes:
        folders: names of the class folders as published, separated by a comma and a space, in label order.
        subject: what the images show, for the task's name and description.
        endings: file endings of the images; empty: all that images have.
    """

    folders: ClassVar[str] = ""
    subject: ClassVar[str] = ""
    endings: ClassVar[tuple[str, ...]] = ()
    template = "a satellite photo of {}."

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        names = cls.folders.split(", ")
        cls.num_classes = len(names)
        cls.renames = {name: readable(name) for name in names}
        cls.task_name = f"{cls.subject} image classification"
        cls.task_description = f"classify {cls.subject} images into {len(names)} categories"

    @classmethod
    def read_raw(cls, folder: Path) -> Split:
        """Classes in declared order, whatever the spelling of their folders."""
        place = cls.image_folder(folder)
        images = cls._declared(place)
        names = list(images)
        missing = [name for name, paths in images.items() if not paths]
        if missing:
            raise UserError(
                f"{place} has no folder with images for {len(missing)} of the {len(names)} classes of {cls.__name__}, "
                f"e.g. {missing[0]!r}; see docs/datasets.md for the layout"
            )
        groups = {name: labelled(sorted(images[name]), label) for label, name in enumerate(names)}
        return Split((cls.task(folder, names),), *split_classes(groups))

    @classmethod
    def images_on_disk(cls, folder: Path) -> list[str]:
        """Images of the declared classes."""
        with suppress(UserError):
            return [path for paths in cls._declared(cls.image_folder(folder)).values() for path in paths]
        return []

    @classmethod
    def _declared(cls, place: Path) -> dict[str, list[str]]:
        """Image paths of each declared class."""
        found: dict[str, list[str]] = {}
        for name, paths in class_images(place).items():
            chosen = [path for path in paths if not cls.endings or path.lower().endswith(cls.endings)]
            found.setdefault(_folded(name), []).extend(chosen)
        names = cls.folders.split(", ")
        return {name: found.get(_folded(name)) or found.get(_folded(readable(name)), []) for name in names}


def _folded(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


@DATASET_REGISTRY.register()
class AID(SceneDataset):
    """Aerial scenes from Google Earth, 600 pixels."""

    dataset_dir = "AID"
    subject = "aerial scene"
    template = "an aerial photo of {}."
    counts = (5000, 2000, 3000)
    class_counts = (
        *(360, 310, 220, 400, 360, 260, 240, 350, 410, 300, 370, 250, 390, 280, 290),
        *(340, 350, 390, 370, 420, 380, 260, 290, 410, 300, 300, 330, 290, 360, 420),
    )
    folders = (
        "Airport, BareLand, BaseballField, Beach, Bridge, Center, Church, Commercial, DenseResidential, Desert, "
        "Farmland, Forest, Industrial, Meadow, MediumResidential, Mountain, Park, Parking, Playground, Pond, Port, "
        "RailwayStation, Resort, River, School, SparseResidential, Square, Stadium, StorageTanks, Viaduct"
    )


@DATASET_REGISTRY.register()
class RESISC45(SceneDataset):
    """NWPU-RESISC45: scenes from Google Earth, 256 pixels."""

    dataset_dir = "NWPU-RESISC45"
    subject = "remote sensing scene"
    counts = (15750, 6300, 9450)
    class_counts = (700,)
    folders = (
        "airplane, airport, baseball_diamond, basketball_court, beach, bridge, chaparral, church, "
        "circular_farmland, cloud, commercial_area, dense_residential, desert, forest, freeway, golf_course, "
        "ground_track_field, harbor, industrial_area, intersection, island, lake, meadow, medium_residential, "
        "mobile_home_park, mountain, overpass, palace, parking_lot, railway, railway_station, "
        "rectangular_farmland, river, roundabout, runway, sea_ice, ship, snowberg, sparse_residential, stadium, "
        "storage_tank, tennis_court, terrace, thermal_power_station, wetland"
    )


@DATASET_REGISTRY.register()
class UCM(SceneDataset):
    """UC Merced Land Use: aerial photographs of the USGS, 256 pixels."""

    dataset_dir = "UCMerced_LandUse"
    image_dir = "Images"
    other_image_dirs = ("UCMerced_LandUse/Images", "UCMerced_LandUse", "")
    subject = "aerial land use"
    template = "an aerial photo of {}."
    counts = (1050, 420, 630)
    class_counts = (100,)
    folders = (
        "agricultural, airplane, baseballdiamond, beach, buildings, chaparral, denseresidential, forest, freeway, "
        "golfcourse, harbor, intersection, mediumresidential, mobilehomepark, overpass, parkinglot, river, runway, "
        "sparseresidential, storagetanks, tenniscourt"
    )


@DATASET_REGISTRY.register()
class WHURS19(SceneDataset):
    """WHU-RS19: scenes from Google Earth, 600 pixels."""

    dataset_dir = "WHU-RS19"
    subject = "high resolution satellite scene"
    counts = (501, 202, 302)
    class_counts = (55, 50, 52, 56, 50, 50, 50, 53, 53, 61, 50, 50, 50, 54, 53, 50, 54, 56, 58)
    folders = (
        "Airport, Beach, Bridge, Commercial, Desert, Farmland, footballField, Forest, Industrial, Meadow, "
        "Mountain, Park, Parking, Pond, Port, railwayStation, Residential, River, Viaduct"
    )


@DATASET_REGISTRY.register()
class RSSCN7(SceneDataset):
    """Scenes from Google Earth in several scales and seasons, 400 pixels; folders are called aGrass ... gParking."""

    dataset_dir = "RSSCN7"
    subject = "satellite land cover"
    counts = (1400, 560, 840)
    class_counts = (400,)
    folders = "aGrass, bField, cIndustry, dRiverLake, eForest, fResident, gParking"


@DATASET_REGISTRY.register()
class PatternNet(SceneDataset):
    """High-resolution scenes from Google Earth, 256 pixels."""

    dataset_dir = "PatternNet"
    image_dir = "images"
    other_image_dirs = ("PatternNet/images", "PatternNet", "")
    subject = "overhead pattern"
    template = "an aerial photo of {}."
    counts = (15200, 6080, 9120)
    class_counts = (800,)
    folders = (
        "airplane, baseball_field, basketball_court, beach, bridge, cemetery, chaparral, christmas_tree_farm, "
        "closed_road, coastal_mansion, crosswalk, dense_residential, ferry_terminal, football_field, forest, "
        "freeway, golf_course, harbor, intersection, mobile_home_park, nursing_home, oil_gas_field, oil_well, "
        "overpass, parking_lot, parking_space, railway, river, runway, runway_marking, shipping_yard, solar_panel, "
        "sparse_residential, storage_tank, swimming_pool, tennis_court, transformer_station, "
        "wastewater_treatment_plant"
    )


@DATASET_REGISTRY.register()
class OPTIMAL31(SceneDataset):
    """OPTIMAL-31: scenes from Google Earth, 256 pixels."""

    dataset_dir = "OPTIMAL-31"
    image_dir = "Images"
    other_image_dirs = ("OPTIMAL-31/Images", "OPTIMAL-31", "")
    subject = "google earth scene"
    counts = (930, 372, 558)
    class_counts = (60,)
    folders = (
        "airplane, airport, baseball_diamond, basketball_court, beach, bridge, chaparral, church, "
        "circular_farmland, commercial_area, dense_residential, desert, forest, freeway, golf_course, "
        "ground_track_field, harbor, industrial_area, intersection, island, lake, meadow, medium_residential, "
        "mobile_home_park, mountain, overpass, parking_lot, railway, rectangular_farmland, roundabout, runway"
    )


@DATASET_REGISTRY.register()
class SIRIWHU(SceneDataset):
    """SIRI-WHU: urban areas of China from Google Earth, 200 pixels."""

    dataset_dir = "SIRI-WHU"
    image_dir = "12class_tif"
    other_image_dirs = ("Google dataset of SIRI-WHU_earth_im_tiff/12class_tif", "SIRI-WHU/12class_tif", "")
    subject = "urban satellite scene"
    counts = (1200, 480, 720)
    class_counts = (200,)
    folders = (
        "agriculture, commercial, harbor, idle_land, industrial, meadow, overpass, park, pond, residential, river, "
        "water"
    )


@DATASET_REGISTRY.register()
class RSICB128(SceneDataset):
    """RSI-CB128: crowd-sourced labels, 128 pixels; the official archive groups the classes under super classes."""

    dataset_dir = "RSI-CB128"
    subject = "satellite ground object"
    folders = (
        "airport_runway, artificial_grassland, avenue, bare_land, bridge, city_avenue, city_building, "
        "city_green_tree, city_road, coastline, container, crossroads, dam, desert, dry_farm, forest, fork_road, "
        "grave, green_farmland, highway, hirst, lakeshore, mangrove, marina, mountain, mountain_road, "
        "natural_grassland, overpass, parkinglot, pipeline, rail, residents, river, river_protection_forest, "
        "sandbeach, sapling, sea, shrubwood, snow_mountain, sparse_forest, storage_room, stream, tower, town, "
        "turning_circle"
    )


@DATASET_REGISTRY.register()
class RSICB256(SceneDataset):
    """RSI-CB256: crowd-sourced labels, 256 pixels; the official archive groups the classes under super classes."""

    dataset_dir = "RSI-CB256"
    subject = "satellite ground object"
    folders = (
        "airplane, airport_runway, artificial_grassland, avenue, bare_land, bridge, city_building, coastline, "
        "container, crossroads, dam, desert, dry_farm, forest, green_farmland, highway, hirst, lakeshore, "
        "mangrove, marina, mountain, parkinglot, pipeline, residents, river, river_protection_forest, sandbeach, "
        "sapling, sea, shrubwood, snow_mountain, sparse_forest, storage_room, stream, town"
    )


@DATASET_REGISTRY.register()
class NaSCTG2(SceneDataset):
    """NaSC-TG2: natural scenes from the space laboratory Tiangong-2, 128 pixels, the RGB images."""

    dataset_dir = "NaSC-TG2"
    subject = "natural satellite scene"
    endings = (".jpg", ".jpeg")  # beside them lie multi-spectral TIFF files
    counts = (10000, 4000, 6000)
    class_counts = (2000,)
    folders = (
        "beach, circle farmland, cloud, desert, forest, mountain, rectangle farmland, residential, river, snowberg"
    )


@DATASET_REGISTRY.register()
class RSD46WHU(SceneDataset):
    """RSD46-WHU: objects and land cover, 256 pixels; its folders train and val are pooled."""

    dataset_dir = "RSD46-WHU"
    subject = "satellite object and land cover"
    folders = (
        "Airplane, Airport, Artificial dense forest land, Artificial sparse forest land, Bare land, Basketball "
        "court, Blue structured factory building, Building, Construction site, Cross river bridge, Crossroads, "
        "Dense tall building, Dock, Fish pond, Footbridge, Graff, Grassland, Low scattered building, Lrregular "
        "farmland, Medium density scattered building, Medium density structured building, Natural dense forest "
        "land, Natural sparse forest land, Oiltank, Overpass, Parking lot, Plasticgreenhouse, Playground, Railway, "
        "Red structured factory building, Refinery, Regular farmland, Scattered blue roof factory building, "
        "Scattered red roof factory building, Sewage plant-type-one, Sewage plant-type-two, Ship, Solar power "
        "station, Sparse residential area, Square, Steelsmelter, Storage land, Tennis court, Thermal power plant, "
        "Vegetable plot, Water"
    )


@DATASET_REGISTRY.register()
class MLRSNet(SceneDataset):
    """MLRSNet, by its main label: 256 pixels."""

    dataset_dir = "MLRSNet"
    image_dir = "Images"
    other_image_dirs = ("MLRSNet/Images", "MLRSNet", "")
    subject = "high resolution remote sensing scene"
    folders = (
        "airplane, airport, bare land, baseball diamond, basketball court, beach, bridge, chaparral, cloud, "
        "commercial area, dense residential area, desert, eroded farmland, farmland, forest, freeway, golf course, "
        "ground track field, harbor and port, industrial area, intersection, island, lake, mobile home park, "
        "meadow, mountain, overpass, park, parking lot, parkway, railway, railway station, river, roundabout, "
        "shipping yard, snowberg, sparse residential area, stadium, storage tank, swimmimg pool, tennis court, "
        "terrace, transmission tower, vegetable greenhouse, wetland, wind turbine"
    )


@DATASET_REGISTRY.register()
class CLRS(SceneDataset):
    """CLRS: scenes of over a hundred countries, 256 pixels."""

    dataset_dir = "CLRS"
    subject = "large scale remote sensing scene"
    counts = (7500, 3000, 4500)
    class_counts = (600,)
    folders = (
        "airport, bare-land, beach, bridge, commercial, desert, farmland, forest, golf-course, highway, "
        "industrial, meadow, mountain, overpass, park, parking, playground, port, railway, railway-station, "
        "residential, river, runway, stadium, storage-tank"
    )


@DATASET_REGISTRY.register()
class RSC11(SceneDataset):
    """RS_C11: scenes of cities in the USA, 512 pixels."""

    dataset_dir = "RS_C11_Database"
    subject = "urban remote sensing scene"
    folders = (
        "dense forest, grassland, harbor, high buildings, low buildings, overpass, railway, residential area, "
        "roads, sparse forest, storage tanks"
    )
