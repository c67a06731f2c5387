"""pare data images: what models of vision are fed, against Pillow and numpy as torchvision's and transformers' own
preprocessing uses them."""
import os

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


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0", "progressive"])
@pytest.mark.parametrize("channels", [3, 1])
def test_jpegs_are_decoded_as_pillow_does(mode, sampling, channels, tmp_path):
    """To the last bit, or to one of 255 should its libjpeg round otherwise than Debian's."""
    rng = np.random.default_rng(1)
    (tmp_path / "set" / "a").mkdir(parents=True)
    for i, (h, w) in enumerate(SIZES):
        px = rng.integers(0, 256, (h // 4 + 1, w // 4 + 1, 4 if mode == "CMYK" else 3), np.uint8)
        image = Image.fromarray(px, "CMYK" if mode == "CMYK" else "RGB").resize((48, 40), Image.Resampling.BICUBIC).convert(mode)
        how = {"progressive": True} if sampling == "progressive" else {"subsampling": sampling}
        image.save(tmp_path / "set" / "a" / f"{i}.jpg", quality=85, **({} if mode == "L" and "subsampling" in how else how))
    run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", "--channels", channels, "-q")
    got = np.rint(np.load(tmp_path / "o.npz")["pixel_values"] * 255).astype(int)
    for i in range(len(SIZES)):
        image = Image.open(tmp_path / "set" / "a" / f"{i}.jpg").convert("RGB" if channels == 3 else "L")
        want = np.asarray(image, int).reshape(40, 48, channels).transpose(2, 0, 1)
        worst = np.abs(got[i] - want).max()
        assert worst <= 1, f"picture {i}: {worst}"
    assert got.std() > 20


def test_folders_in_a_class_are_walked_and_what_is_passed_over_is_said(tmp_path):
    """In the order of torchvision's ImageFolder: sorted(os.walk(class)), then the sorted files of each."""
    shade = {}
    for i, name in enumerate(["a/z.png", "a/in-1/1.png", "a/in/2.png", "a/in/deep/0.png", "b/q.png", "b/B.PNG"]):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * i + 5, np.uint8)).save(path, "png")
        shade[str(path)] = 10 * i + 5
    for name in ("a/x.bmp", "b/in.txt", "b/.hidden.png", "stray.png"):
        (tmp_path / "set" / name).write_bytes(b"?")
    (tmp_path / "set" / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    want = [shade[os.path.join(root, f)] for c in "ab" for root, _, files in sorted(os.walk(tmp_path / "set" / c)) for f in sorted(files)
            if os.path.join(root, f) in shade]
    said = run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", "--channels", 1).stderr
    got = np.load(tmp_path / "o.npz")
    assert np.rint(255 * got["pixel_values"][:, 0, 0, 0]).astype(int).tolist() == want
    assert got["labels"].tolist() == [0, 0, 0, 0, 1, 1]
    assert "4 files are passed over" in said and "x.bmp .." in said, said
    (tmp_path / "set" / "a" / "round").symlink_to(tmp_path / "set" / "a")
    assert "folders in each other" in run("data", "images", tmp_path / "set", "-o", tmp_path / "p.npz", code=4).stderr


def test_mean_and_std_of_ones_own_come_before_the_preset(tmp_path):
    (tmp_path / "set").mkdir()
    pictures = folder(tmp_path / "set")
    run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", "--size", 16, "--normalize", "imagenet", "--mean", 0.25, "-q")
    want = wanted(pictures[0][0], 16, 0, Image.Resampling.BILINEAR, 0.25, PRESETS["imagenet"][1])
    assert np.abs(np.load(tmp_path / "o.npz")["pixel_values"][0] - want).max() <= 1e-6
    for option, value in (("--normalize", "vit"), ("--resample", "nearest")):
        assert value in run("data", "images", tmp_path / "set", "-o", tmp_path / "o.npz", option, value, code=2).stderr
