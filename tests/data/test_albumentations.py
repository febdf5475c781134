"""Transforms of the package albumentations in training: with a stand-in for it, and with the package itself."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.data.test_augment import SIZE, Source, outputs, pipeline, same
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Albumentations
from ultralytics.utils.errors import MissingPackageError, OptionError
from ultralytics.utils.instance import Instances


class Shift:
    """Drop the left `columns` of an image, and the boxes whose center is there."""

    def __init__(self, columns=0, p=1.0):
        self.columns, self.p = columns, p

    def to_dict(self):
        return {"transform": {"columns": self.columns, "p": self.p}}


class FakeCompose(list):
    def __init__(self, steps, bbox_params=None):
        super().__init__(steps)
        self.available_keys = {"image", *["bboxes"] * any(getattr(step, "columns", 0) for step in steps)}
        self.processors = {"bboxes": bbox_params} if bbox_params else {}

    def set_random_seed(self, seed):
        self.seed = seed

    def __call__(self, image, bboxes=(), class_labels=()):
        cut = sum(step.columns for step in self)
        moved = np.array(bboxes).reshape(-1, 4) * [image.shape[1], 1, image.shape[1], 1]
        keep = moved[:, 0] > cut
        moved = (moved - [cut, 0, 0, 0]) / [image.shape[1] - cut, 1, image.shape[1] - cut, 1]
        image = image[:, cut:] + np.uint8(self.seed % 256)
        return {"image": image, "bboxes": moved[keep], "class_labels": np.array(class_labels)[keep].tolist()}


@pytest.fixture
def package(monkeypatch):
    names = ("Blur", "MedianBlur", "ToGray", "CLAHE")
    kinds = {
        name: type(name, (Shift,), {"__repr__": lambda self: f"{type(self).__name__}({self.p})"}) for name in names
    }
    kinds |= {"Compose": FakeCompose, "BboxParams": dict, "from_dict": lambda plain: Shift(**plain["transform"])}
    monkeypatch.setitem(sys.modules, "albumentations", SimpleNamespace(**kinds))


def test_without_the_package_nothing_is_added_and_a_list_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    assert Albumentations().transform is None and "Albumentations" not in repr(pipeline(Source()))
    with pytest.raises(MissingPackageError, match=r'augmentations needs .* pip install "albumentations>=1.4.21"'):
        Albumentations(transforms=[Shift(p=1)])


def test_an_old_package_is_refused_with_what_to_do(package, monkeypatch):
    monkeypatch.delattr(FakeCompose, "set_random_seed")
    with pytest.raises(OptionError, match=r"pip install -U albumentations, an old one is installed; or write \[\]"):
        pipeline(Source())
    assert pipeline(Source(), augmentations=[])


def test_with_the_package_images_are_rarely_blurred_gray_or_equalized(package, caplog):
    steps = pipeline(Source()).transforms
    assert [type(step).__name__ for step in steps][-4:] == ["Albumentations", "RandomHSV", "RandomFlip", "RandomFlip"]
    assert "albumentations: Blur(0.01), MedianBlur(0.01), ToGray(0.01), CLAHE(0.01)" in caplog.text
    assert "Albumentations" not in repr(pipeline(Source(), augmentations=[]))
    assert "Albumentations" not in repr(pipeline(Source(), augmentation="official"))


def test_the_generator_of_a_sample_seeds_the_transforms(package):
    assert all(map(same, outputs(Source(), 4), outputs(Source(), 4)))
    apply, sample = Albumentations(), Source().load(0)
    assert not same(apply(sample, np.random.default_rng(0)), apply(sample, np.random.default_rng(1)))
    assert Albumentations(p=0.0)(sample, np.random.default_rng(0)) is sample


def test_boxes_move_with_the_image_unless_all_would_be_lost(package):
    sample = Source().load(3)  # 48 x 80, boxes 8 6 40 30 and 50 20 53 23
    moved = Albumentations(transforms=[Shift(30)])(sample, np.random.default_rng(0))
    assert moved.shape == (48, 50) and np.allclose(moved.boxes, [[20, 20, 23, 23]]) and moved.cls.tolist() == [3]
    assert Albumentations(transforms=[Shift(60)])(sample, np.random.default_rng(0)) is sample


def test_the_option_holds_plain_data(package):
    options = get_cfg(overrides={"augmentations": [Shift(30, p=0.5)]})
    assert options.augmentations == [{"transform": {"columns": 30, "p": 0.5}}]
    step = next(step for step in pipeline(Source(), **{"augmentations": options.augmentations}).transforms[::-1]
                if isinstance(step, Albumentations))  # fmt: skip
    assert [(s.columns, s.p) for s in step.transform] == [(30, 0.5)]
    assert get_cfg(overrides={"augmentations": []}).augmentations == []
    for wrong in (["Blur"], Shift(), "Blur"):
        with pytest.raises(OptionError, match="augmentations: expected a list of transforms or null, got"):
            get_cfg(overrides={"augmentations": wrong})


def test_a_constructor_of_a_script_chooses_the_transforms(package, monkeypatch):
    def init(self, p=1.0):
        self.p, self.transform = p, FakeCompose([Shift(3)])

    monkeypatch.setattr(Albumentations, "__init__", init)
    assert [step.transform[0].columns for step in pipeline(Source()).transforms if hasattr(step, "transform")] == [3]


def test_the_package_itself():
    A = pytest.importorskip("albumentations")
    assert [type(step).__name__ for step in Albumentations().transform] == ["Blur", "MedianBlur", "ToGray", "CLAHE"]
    given = Instances(np.float32([[10, 10, 30, 40], [50, 20, 80, 60]]), bbox_format="xyxy", normalized=False)
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    labels = {"img": image, "cls": np.float32([[0], [1]]), "instances": given}
    flipped = Albumentations(transforms=[A.HorizontalFlip(p=1.0)])(labels)
    assert np.array_equal(flipped["img"], image[:, ::-1]) and flipped["cls"].tolist() == [[0], [1]]
    assert np.allclose(flipped["instances"].bboxes, [[50, 10, 70, 40], [0, 20, 30, 60]], atol=1e-4)
    plain = get_cfg(overrides={"augmentations": [A.OneOf([A.Crop(0, 0, 1, 1, p=1.0)], p=1.0)]}).augmentations
    assert Albumentations(transforms=plain)(Source().load(0), np.random.default_rng(0)).shape == (48, 80)
    after = [sample.image.tobytes() for sample in outputs(Source(), 3, augmentations=[A.GaussNoise(p=1.0)])]
    assert after == [sample.image.tobytes() for sample in outputs(Source(), 3, augmentations=[A.GaussNoise(p=1.0)])]
    assert {len(image) for image in after} == {SIZE * SIZE * 3}
    with pytest.raises(OptionError, match=r"no transform 'mine\.Step'; import the module"):
        Albumentations(transforms=[{"transform": {"__class_fullname__": "mine.Step"}}])
