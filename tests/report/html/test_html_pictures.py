"""The pictures of the page, in the colours of both themes."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from run_folders import write_run

from savi.report import figures
from savi.report.figures.style import IMAGES, save
from savi.report.html.pictures import CARD, darkened, pictures
from savi.report.runs import read_run


def opened(url: str) -> Image.Image:
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run")
    for picture in (folder / "figures").iterdir():
        picture.unlink()
    return folder


def test_light_and_dark_change_places_and_images_stay(run):
    x = torch.linspace(0, 1, 4 * 64).reshape(4, 1, 8, 8)
    save(figures.image_grid(x, "Data"), run / "figures" / "data.png")
    (picture,) = pictures(read_run(run, "run"))
    light, dark = (np.asarray(opened(url).convert("RGB")) for url in (picture.source, picture.dark))
    assert light.shape == dark.shape == (picture.height, picture.width, 3)
    assert (light[0, 0], dark[0, 0]) == (pytest.approx(255), pytest.approx(CARD))
    boxes = json.loads(opened(picture.source).info[IMAGES])
    assert len(boxes) == 4
    inside = np.zeros(light.shape[:2], bool)
    for number, (left, top, right, bottom) in enumerate(boxes):
        inside[top:bottom, left:right] = True
        first, last = (255 * x[number].flatten()[end] for end in (0, -1))
        # The pixels of the data, from the first to the last one.
        assert light[top + 3, left + 3, 0] == pytest.approx(first, abs=2)
        assert light[bottom - 4, right - 4, 0] == pytest.approx(last, abs=2)
    # But for the palette of 256 colours.
    assert np.abs(light[inside].astype(int) - dark[inside]).max() <= 8
    # The rest is ink on paper, which is light on dark now.
    assert light[~inside].max() == 255
    assert dark[~inside].mean() < 60 < 200 < dark[~inside].max()


def test_the_tiles_of_a_traversal_are_images_and_the_lines_between_them_are_not(run):
    means = torch.full((2, 3, 64), 0.5)
    drawn = figures.latent_traversals(means, (-1, 0, 1), ["a", "b"], None, (1, 8, 8))
    path = save(drawn, run / "figures" / "latent_traversals.png")
    with Image.open(path) as image:
        boxes, pixels = json.loads(image.info[IMAGES]), np.asarray(image.convert("RGB"))
    assert len(boxes) == 6
    for left, top, right, bottom in boxes:
        assert (abs(pixels[top + 1 : bottom - 1, left + 1 : right - 1].astype(int) - 128) < 2).all()
    assert boxes[0][2] < boxes[1][0]
    assert boxes[0][3] < boxes[3][1]
    assert (pixels[boxes[0][1] + 9, (boxes[0][2] + boxes[1][0]) // 2] == 255).all()


def test_colours_keep_their_hue():
    colours = np.array([[[0, 114, 178], [213, 94, 0], [51, 51, 51]]], dtype=np.uint8)
    blue, orange, ink = np.asarray(darkened(Image.fromarray(colours), []).convert("RGB"))[0]
    assert blue.argmax() == 2
    assert orange.argmax() == 0
    assert ink.min() > 200


@pytest.mark.parametrize("said", [None, "{", "[1]", "[[-1, 0, 1, 1]]", '{"a": 1}', "[" * 9999])
def test_a_picture_that_does_not_say_where_its_images_are_is_shown_as_it_is(said, run):
    facts = PngInfo()
    if said is not None:
        facts.add_text(IMAGES, said)
    Image.new("RGB", (9, 9)).save(run / "figures" / "a.png", pnginfo=facts)
    (picture,) = pictures(read_run(run, "run"))
    assert picture.dark == ""
    assert opened(picture.source).size == (9, 9)
