import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from savi.errors import InputError
from savi.report.figures import latent_traversals, save
from savi.report.figures.style import VERMILION

GENERATOR = torch.Generator().manual_seed(0)
VALUES = (-2.5, 0.0, 2.5)


def random(*shape):
    return torch.rand(shape, generator=GENERATOR)


def test_images_stand_at_their_values_and_dimensions():
    means, mean = random(2, 3, 20) - 0.5, torch.full((20,), 0.5)
    figure = latent_traversals(means, VALUES, ["first", "second"], mean, (1, 4, 5))
    (axes,) = figure.axes
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == (2 * 4 + 1, 3 * 5 + 2, 3)
    for row in range(2):
        for column in range(3):
            tile = canvas[5 * row :, 6 * column :][:4, :5]
            expected = (means[row, column] + mean).reshape(4, 5)
            np.testing.assert_allclose(tile[..., 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(canvas[4], 1.0)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["-2.5", "0", "2.5"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["first", "second"]
    np.testing.assert_array_equal(axes.get_xticks(), [2, 8, 14])
    np.testing.assert_array_equal(axes.get_yticks(), [1.5, 6.5])


def test_colour_images_keep_their_channels():
    means = random(1, 1, 12)
    means[0, 0, 3] = torch.nan
    (axes,) = latent_traversals(means, [0.0], ["one"], None, (3, 2, 2)).axes
    canvas = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(canvas[1, 1], to_rgb(VERMILION))
    np.testing.assert_allclose(canvas[0, 1], means[0, 0].reshape(3, 2, 2)[:, 0, 1], rtol=1e-6)


def test_vectors_are_lines_in_the_colours_of_their_values():
    means = random(2, 3, 7)
    figure = latent_traversals(means, VALUES, ["a", "b"], torch.ones(7), (7,))
    *rows, _ = figure.axes
    assert [axes.get_ylabel() for axes in rows] == ["a", "b"]
    for axes, row in zip(rows, means, strict=True):
        for line, values in zip(axes.lines, row, strict=True):
            np.testing.assert_allclose(line.get_ydata(), values + 1, rtol=1e-6)
    assert rows[0].get_ylim() == rows[1].get_ylim()
    shown = [line.get_color() for line in rows[0].lines]
    np.testing.assert_allclose(shown, colormaps["viridis"]([0.0, 0.5, 1.0]), atol=0.01)


def test_no_active_dimension_is_said(tmp_path):
    figure = latent_traversals(torch.zeros(0, 3, 5), VALUES, [], None, (5,))
    (text,) = figure.axes[0].texts
    assert text.get_text().startswith("No latent dimension is active")
    assert save(figure, tmp_path / "none.png").is_file()


@pytest.mark.parametrize(("values", "labels"), [((1.0,), ["a"]), (VALUES, [])])
def test_rows_and_columns_must_fit(values, labels):
    with pytest.raises(InputError, match="pass a label for each row and a value for each column"):
        latent_traversals(torch.zeros(1, 3, 5), values, labels, None, (5,))
