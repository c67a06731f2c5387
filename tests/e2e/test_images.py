"""pare data images: what models of vision are fed, against Pillow and numpy as torchvision's and transformers' own
preprocessing uses them."""
import numpy as np
import pytest

from conftest import run

Image = pytest.importorskip("PIL.Image")

PRESETS = {"none": (0.0, 1.0), "half": (0.5, 0.5), "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
           "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))}
SIZES = [(31, 47), (64, 40), (33, 33), (224, 225), (7, 90), (130, 21)]  # height, width
MODES = ["RGB", "L", "RGBA", "P"]


def folder(tmp_path):
    """Two classes of pictures in all sizes and modes; the pictures in the order that they are counted in."""
    rng, out = np.random.default_rng(0), []
    for label, name in enumerate(["a", "b"]):
        (tmp_path / name).mkdir()
        for i, ((h, w), mode) in enumerate((s, m) for s in SIZES for m in MODES):
            smooth = np.add.outer(np.arange(h) * 3, np.arange(w) * 5)[..., None] + [0, 90, 180]
            px = ((smooth + rng.integers(0, 80, (h, w, 3))) % 256).astype(np.uint8)
            image = Image.fromarray(px).convert(mode)
            image.save(tmp_path / name / f"{i:03}.png")
            out.append((image, label))
    return out


def wanted(image, size, crop, how, mean, std):
    x = image.convert("RGB")
    if size and crop:  # torchvision.transforms.Resize(size): the shorter side; CenterCrop(crop)
        w, h = x.size
        x = x.resize((size, int(size * h / w)) if w <= h else (int(size * w / h), size), how)
        w, h = x.size
        left, top = int(round((w - crop) / 2.0)), int(round((h - crop) / 2.0))
        x = x.crop((left, top, left + crop, top + crop))
    elif size:
        x = x.resize((size, size), how)
    x = np.asarray(x, np.float32) / np.float32(255)
    return ((x - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).transpose(2, 0, 1)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize("preset, size, crop", [("imagenet", 36, 32), ("clip", 32, 32), ("half", 40, 0), ("none", 20, 17)])
def test_pictures_are_resized_cropped_and_normalised_as_the_reference_does(how, preset, size, crop, tmp_path):
    (tmp_path / "set").mkdir()
    pictures = folder(tmp_path / "set")
    run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", "--size", size, *(["--crop", crop] if crop else []),
        "--resample", how, "--normalize", preset, "-q")
    got = np.load(tmp_path / "o.npz")
    assert got["labels"].tolist() == [label for _, label in pictures]
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for i, (image, _) in enumerate(pictures):
        want = wanted(image, size, crop, filters[how], *PRESETS[preset])
        worst = np.abs(got["pixel_values"][i] - want).max()
        assert worst <= 1e-6, f"picture {i}, {image.size} {image.mode}: {worst}"


def test_mean_and_std_of_ones_own_come_before_the_preset(tmp_path):
    (tmp_path / "set").mkdir()
    pictures = folder(tmp_path / "set")
    run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", "--size", 16, "--normalize", "imagenet", "--mean", 0.25, "-q")
    want = wanted(pictures[0][0], 16, 0, Image.Resampling.BILINEAR, 0.25, PRESETS["imagenet"][1])
    assert np.abs(np.load(tmp_path / "o.npz")["pixel_values"][0] - want).max() <= 1e-6
    for option, value in (("--normalize", "vit"), ("--resample", "nearest")):
        assert value in run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", option, value, code=2).stderr
