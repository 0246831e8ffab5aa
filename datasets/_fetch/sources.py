"""Where to get the data sets: addresses known to work, digests, and web pages for people.

An address is a web address, "drive:ID" (a file on Google Drive) or "kaggle:owner/name" (needs an account there).
Digests are those that torchvision, torchgeo and other loaders publish; not every file has one.
Links in CoOp's and SoftCPT's instructions that are dead have been replaced: Caltech-101 moved to data.caltech.edu,
EuroSAT to Zenodo, and Stanford Cars is only on Kaggle.
"""

from dataclasses import dataclass

_HF = "https://huggingface.co/datasets"
_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_IMAGENET_NAMES = "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF"


@dataclass(frozen=True)
class Mirror:
    """One address of a file, with the digest ("md5:..." or "sha256:...") and size in bytes where they are known."""

    address: str
    digest: str = ""
    size: int = 0


@dataclass(frozen=True)
class Source:
    """One file that belongs to a data set.

    Attributes:
        file: its name in the data folder; an archive is left there after unpacking.
        mirrors: addresses in the order in which they are tried; empty: the file must be fetched by hand.
        into: folder below the data folder that the archive is unpacked into; None for a file that is used as it is.
        gives: content that must exist for the archive to count as unpacked; empty: the data set's images.
        take: folder of the archive whose content is wanted; empty: all.
        then: archives inside this one, to be unpacked where they lie.
        also: other names under which the archive is recognised.
        optional: whether the data set can be used without it.
        page: web page where a person can get it.
        hint: what else that person must know.
    """

    file: str
    mirrors: tuple[Mirror, ...] = ()
    into: str | None = ""
    gives: tuple[str, ...] = ()
    take: str = ""
    then: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    optional: bool = False
    page: str = ""
    hint: str = ""


def _at(*addresses: str, digest: str = "", size: int = 0) -> tuple[Mirror, ...]:
    return tuple(Mirror(address, digest, size) for address in addresses)


def _file(name: str, drive: str, *, optional: bool = False) -> Source:
    """A small file on Google Drive that is used as it is."""
    page = f"https://drive.google.com/file/d/{drive}/view"
    return Source(name, _at(f"drive:{drive}"), into=None, optional=optional, page=page)


def _split(name: str, drive: str) -> Source:
    """CoOp's published split file; without it a rule makes the split."""
    return _file(f"split_zhou_{name}.json", drive, optional=True)


def _kaggle(name: str, into: str = "", take: str = "") -> Source:
    """A data set on Kaggle; the archive has the name that Kaggle gives it."""
    file = f"{name.split('/')[1]}.zip"
    return Source(file, _at(f"kaggle:{name}"), into=into, take=take, also=("archive.zip",), page=_kaggle_page(name))


def _kaggle_page(name: str) -> str:
    return f"https://www.kaggle.com/datasets/{name}"


def _by_hand(file: str, page: str, hint: str = "") -> Source:
    also = tuple(f"{file.rsplit('.', 1)[0]}.{ending}" for ending in ("tar", "tar.gz", "tgz"))
    return Source(file, page=page, hint=hint, also=also)


SOURCES: dict[str, tuple[Source, ...]] = {
    # -- General-10 --------------------------------------------------------------------------------------------
    "Caltech101": (
        Source(
            "caltech-101.zip",
            _at(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                digest="md5:3138e1922a9193bfa496528edbbc45d0",
            ),
            then=("caltech-101/101_ObjectCategories.tar.gz",),
            also=("101_ObjectCategories.tar.gz",),
            page="https://data.caltech.edu/records/mzrjq-6wc02",
        ),
        _split("Caltech101", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),
    ),
    "DescribableTextures": (
        Source(
            "dtd-r1.0.1.tar.gz",
            _at(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", digest="md5:fff73e5086ae6bdbea199a49dfb8a4c1"),
            page=f"{_VGG}/dtd/",
        ),
        _split("DescribableTextures", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),
    ),
    "EuroSAT": (
        Source(
            "EuroSAT_RGB.zip",
            (
                *_at(
                    "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip?download=1",
                    digest="md5:f46e308c4d50d4bf32fedad2d3d62f3b",
                ),
                *_at(
                    f"{_HF}/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                    "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
                    digest="md5:c8fa014336c82ac7804f0398fcb19387",
                ),
            ),
            also=("EuroSAT.zip",),
            page="https://zenodo.org/records/7711810",
        ),
        _split("EuroSAT", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),
    ),
    "FGVCAircraft": (
        Source(
            "fgvc-aircraft-2013b.tar.gz",
            _at(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"),
            page=f"{_VGG}/fgvc-aircraft/",
        ),
    ),
    "Food101": (
        Source(
            "food-101.tar.gz",
            _at("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", digest="md5:85eeb15f3717b99a5da872d97d918f87"),
            page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        ),
        _split("Food101", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),
    ),
    "OxfordFlowers": (
        Source(
            "102flowers.tgz",
            _at(f"{_VGG}/flowers/102/102flowers.tgz", digest="md5:52808999861908f626f3c1f4e79d11fa"),
            page=f"{_VGG}/flowers/102/",
        ),
        Source(
            "imagelabels.mat",
            _at(f"{_VGG}/flowers/102/imagelabels.mat", digest="md5:e0620be6f572b9609742df49c70aed4d"),
            into=None,
            page=f"{_VGG}/flowers/102/",
        ),
        _file("cat_to_name.json", "1AkcxCXeK_RCGCEC_GvmWxjcjaNhu-at0"),
        _split("OxfordFlowers", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),
    ),
    "OxfordPets": (
        Source(
            "images.tar.gz",
            _at(f"{_VGG}/pets/data/images.tar.gz", digest="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            page=f"{_VGG}/pets/",
        ),
        Source(
            "annotations.tar.gz",
            _at(f"{_VGG}/pets/data/annotations.tar.gz", digest="md5:95a8c909bbe2e81eed6a22bccdf3f68f"),
            gives=("annotations/trainval.txt", "annotations/test.txt"),
            page=f"{_VGG}/pets/",
        ),
        _split("OxfordPets", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),
    ),
    "StanfordCars": (
        Source(
            "torchvision-stanford-cars.zip",
            _at("kaggle:rickyyyyyyy/torchvision-stanford-cars"),
            gives=("cars_train", "cars_test", "devkit/cars_meta.mat", "cars_test_annos_withlabels.mat"),
            take="stanford_cars",
            page=_kaggle_page("rickyyyyyyy/torchvision-stanford-cars"),
            hint="the authors' own page at ai.stanford.edu is gone",
        ),
        _split("StanfordCars", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
    ),
    "SUN397": (
        Source(
            "SUN397.tar.gz",
            _at(
                "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
                digest="md5:8ca2778205c41d23104230ba66911c7a",
            ),
            page="https://vision.princeton.edu/projects/2010/SUN/",
        ),
        Source(
            "Partitions.zip",
            _at("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip"),
            gives=("ClassName.txt", "Training_01.txt", "Testing_01.txt"),
            optional=True,
            page="https://vision.princeton.edu/projects/2010/SUN/",
        ),
        _split("SUN397", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
    ),
    "UCF101": (
        Source(
            "UCF-101-midframes.zip",
            _at("drive:10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"),
            page="https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O/view",
        ),
        Source(
            "UCF101TrainTestSplits-RecognitionTask.zip",
            _at("https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"),
            gives=("ucfTrainTestlist/classInd.txt",),
            optional=True,
            page="https://www.crcv.ucf.edu/data/UCF101.php",
        ),
        _split("UCF101", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
    ),
    # -- ImageNet and its variants -----------------------------------------------------------------------------
    "ImageNet": (
        Source(
            "imagenet.tar",
            page="https://image-net.org/download.php",
            hint="needs an account; unpack it so that images/train and images/val have one folder a class",
        ),
        _file("classnames.txt", _IMAGENET_NAMES),
    ),
    "ImageNetV2": (
        Source(
            "imagenetv2-matched-frequency.tar.gz",
            _at(
                f"{_HF}/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                "https://s3-us-west-2.amazonaws.com/imagenetv2public/imagenetv2-matched-frequency.tar.gz",
            ),
            page="https://github.com/modestyachts/ImageNetV2",
        ),
        _file("classnames.txt", _IMAGENET_NAMES),
    ),
    "ImageNetSketch": (
        Source(
            "ImageNet-Sketch.zip",
            _at(
                "drive:1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",
                f"{_HF}/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
            ),
            page="https://github.com/HaohanWang/ImageNet-Sketch",
        ),
        _file("classnames.txt", _IMAGENET_NAMES),
    ),
    "ImageNetA": (
        Source(
            "imagenet-a.tar",
            _at(
                "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
                digest="md5:c3e55429088dc681f30d81f4726b6595",
                size=687_552_512,
            ),
            page="https://github.com/hendrycks/natural-adv-examples",
        ),
        _file("classnames.txt", _IMAGENET_NAMES),
    ),
    "ImageNetR": (
        Source(
            "imagenet-r.tar",
            _at(
                "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
                digest="md5:a61312130a589d0ca1a8fca1f2bd3337",
            ),
            page="https://github.com/hendrycks/imagenet-r",
        ),
        _file("classnames.txt", _IMAGENET_NAMES),
    ),
    # -- Plant-6 -----------------------------------------------------------------------------------------------
    "FruitVegetable": (_kaggle("kritikseth/fruit-and-vegetable-image-recognition", into="images"),),
    "KaggleFlower": (_kaggle("alxmamaev/flowers-recognition"),),
    "KaggleMushroom": (_kaggle("maysee/mushrooms-classification-common-genuss-images"),),
    "KaggleVegetable": (_kaggle("misrakahmed/vegetable-image-dataset"),),
    "PlantSeedlingV1": (
        Source(
            "Nonsegmented.zip",
            _at("https://vision.eng.au.dk/?download=/data/WeedData/Nonsegmented.zip"),
            into="Nonsegmented",
            page="https://vision.eng.au.dk/plant-seedlings-dataset/",
        ),
    ),
    "PlantVillage": (
        Source(
            "Plant_leaf_diseases_dataset_without_augmentation.zip",
            _at(
                "https://data.mendeley.com/public-files/datasets/tywbtsjrjv/files/"
                "d5652a28-c1d8-4b76-97f3-72fb80f94efc/file_downloaded"
            ),
            page="https://data.mendeley.com/datasets/tywbtsjrjv/1",
        ),
    ),
    # -- Fashion-20 --------------------------------------------------------------------------------------------
    "Fashion20": (
        _by_hand(
            "fashion20.zip",
            "https://pan.baidu.com/s/1ITXWaRVVXi1PLnbXVa_kjA",
            "code 67c4; task_info.csv and images/<task>/<class>/ must lie directly in the data folder",
        ),
    ),
    # -- remote sensing ----------------------------------------------------------------------------------------
    "AID": (
        Source(
            "AID.zip",
            _at("drive:1cvjfe_MZJI9HXwkRgoQbSCH55qQd6Esm", "kaggle:jiayuanchengala/aid-scene-classification-datasets"),
            page="https://captain-whu.github.io/AID/",
        ),
    ),
    "RESISC45": (
        Source(
            "NWPU-RESISC45.zip",
            _at(
                f"{_HF}/torchgeo/resisc45/resolve/a826b44d938a883185f11ebe3d512d38b464312f/NWPU-RESISC45.zip",
                digest="md5:75206b2e16446591afa88e2628744886",
            ),
            page="https://gcheng-nwpu.github.io/#Datasets",
            hint="the authors' archive is a .rar file: unpack it there yourself",
        ),
    ),
    "UCM": (
        Source(
            "UCMerced_LandUse.zip",
            _at(
                f"{_HF}/torchgeo/ucmerced/resolve/main/UCMerced_LandUse.zip",
                "http://weegee.vision.ucmerced.edu/datasets/UCMerced_LandUse.zip",
                digest="md5:5b7ec56793786b6dc8a908e8854ac0e4",
            ),
            page="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        ),
    ),
    "WHURS19": (
        Source(
            "WHU-RS19.zip",
            _at("https://github.com/CAPTAIN-WHU/BED4RS/raw/main/datasets/WHU-RS19.zip"),
            page="https://captain-whu.github.io/BED4RS/",
        ),
    ),
    "RSSCN7": (
        Source(
            "RSSCN7-master.zip",
            _at("https://github.com/palewithout/RSSCN7/archive/refs/heads/master.zip"),
            also=("RSSCN7.zip",),
            page="https://github.com/palewithout/RSSCN7",
        ),
    ),
    "PatternNet": (
        Source(
            "PatternNet.zip",
            _at("drive:127lxXYqzO6Bd0yZhvEbgIfz95HaEnr9K", digest="md5:96d54b3224c5350a98d55d5a7e6984ad"),
            page="https://sites.google.com/view/zhouwx/dataset",
        ),
    ),
    "OPTIMAL31": (
        Source(
            "OPTIMAL-31.zip",
            _at("drive:1Fk9a0DW8UyyQsR8dP2Qdakmr69NVBhq9"),
            page="https://drive.google.com/file/d/1Fk9a0DW8UyyQsR8dP2Qdakmr69NVBhq9/view",
        ),
    ),
    "SIRIWHU": (
        _by_hand("SIRI-WHU.zip", "https://figshare.com/articles/dataset/SIRI_WHU_Dataset/8796980", "the 12 class set"),
    ),
    "RSICB128": (_kaggle("noamaanabdulazeem/myfile"),),
    "RSICB256": (_by_hand("RSI-CB256.zip", "https://github.com/lehaifeng/RSI-CB"),),
    "NaSCTG2": (_by_hand("NaSC-TG2.zip", "http://www.msadc.cn/main/setsubDetail?id=1370312964720037889"),),
    "RSD46WHU": (_by_hand("RSD46-WHU.zip", "https://github.com/RSIA-LIESMARS-WHU/RSD46-WHU"),),
    "MLRSNet": (
        Source(
            "MLRSNet.zip",
            _at("kaggle:fes2255/mlrsnet"),
            also=("mlrsnet.zip",),
            page="https://data.mendeley.com/datasets/7j9bv9vwsx",
            hint="where its classes come as .rar files, unpack them yourself into Images/<class>/",
        ),
    ),
    "CLRS": (_by_hand("CLRS.zip", "https://github.com/lehaifeng/CLRS"),),
    "RSC11": (_by_hand("RS_C11_Database.zip", "https://www.researchgate.net/publication/271647282_RS_C11_Database"),),
}
