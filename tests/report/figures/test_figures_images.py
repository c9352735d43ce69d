import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from savi.errors import InputError
from savi.report.figures import image_grid, prior_samples, reconstructions, save
from savi.report.figures.style import BLUE, GREY, VERMILION

GENERATOR = torch.Generator().manual_seed(0)
SHAPE = (1, 4, 4)


def random(*shape):
    return torch.rand(shape, generator=GENERATOR)


def pixels(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def test_images_are_drawn_in_reading_order():
    images = random(5, *SHAPE)
    figure = image_grid(images, "Digits", columns=3)
    assert figure.get_suptitle() == "Digits"
    assert len(figure.axes) == 5
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 3)
    for axes, image in zip(figure.axes, images, strict=True):
        for channel in range(3):
            np.testing.assert_allclose(pixels(axes)[..., channel], image[0], rtol=1e-6)


def test_colour_images_keep_their_channels():
    image = random(1, 3, 5, 4)
    (axes,) = image_grid(image, "Colour").axes
    assert pixels(axes).shape == (5, 4, 3)
    np.testing.assert_allclose(pixels(axes), image[0].permute(1, 2, 0), rtol=1e-6)


def test_the_mean_is_added_back_before_clipping():
    flat = torch.tensor([[-0.5, 0.0, 0.25, 3.0]])
    (axes,) = image_grid(flat, "", shape=(1, 2, 2), mean=torch.full((4,), 0.5)).axes
    np.testing.assert_allclose(pixels(axes)[..., 0], [[0, 0.5], [0.75, 1]])


def test_the_default_grid_is_nearly_square():
    figure = image_grid(random(64, *SHAPE), "")
    assert figure.axes[0].get_gridspec().get_geometry() == (8, 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_are_not_finite_stand_out(channels):
    images = random(1, channels, 2, 2)
    images[0, 0, 0, 1] = torch.nan
    images[0, 0, 1, 1] = torch.inf
    (axes,) = image_grid(images, "").axes
    np.testing.assert_allclose(pixels(axes)[:, 1], [to_rgb(VERMILION)] * 2)
    np.testing.assert_allclose(pixels(axes)[:, 0, 0], images[0, 0, :, 0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 2, 2)])
def test_other_shapes_are_drawn_as_lines_on_shared_axes(shape):
    vectors = random(3, *shape)
    figure = image_grid(vectors, "", columns=3)
    assert len(figure.axes) == 3
    for axes, vector in zip(figure.axes, vectors, strict=True):
        assert not axes.images
        np.testing.assert_allclose(axes.lines[0].get_ydata(), vector.flatten(), rtol=1e-6)
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_vectors_keep_their_scale_and_show_gaps():
    vectors = torch.tensor([[1.0, torch.inf, -7.0]])
    (axes,) = image_grid(vectors, "", mean=torch.ones(3)).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2.0, np.nan, -6.0])


def test_reconstructions_before_and_after_inner_steps():
    x, mean = random(12, 16) - 0.5, torch.full((16,), 0.5)
    init, final = x + 0.1, x - 0.01
    figure = reconstructions(x, init, final, mean, SHAPE)
    rows = np.array(figure.axes).reshape(3, 10)
    assert [row[0].get_ylabel() for row in rows] == ["data", "at $\\lambda_0$", "at $\\lambda_K$"]
    for row, values in zip(rows, (x, init, final), strict=True):
        for axes, value in zip(row, values, strict=False):
            expected = (value + mean).clip(0, 1).reshape(4, 4)
            np.testing.assert_allclose(pixels(axes)[..., 0], expected, rtol=1e-5, atol=1e-7)
    assert [axes.get_xlabel() for axes in rows[0]] == [""] * 10
    assert [axes.get_xlabel() for axes in rows[1]] == ["0.160"] * 10
    assert [axes.get_xlabel() for axes in rows[2]] == ["0.00160"] * 10


def test_errors_are_those_of_the_values_before_clipping():
    x = torch.zeros(1, 4)
    figure = reconstructions(x, x + 5, x + 10, None, (1, 2, 2))
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "100", "400"]


@pytest.mark.parametrize("same", [True, False], ids=["identical", "equal"])
def test_without_inner_steps_there_are_two_rows(same):
    x = random(3, 16)
    init = x + 0.1
    figure = reconstructions(x, init, init if same else init.clone(), None, SHAPE)
    rows = np.array(figure.axes).reshape(2, 3)
    assert [row[0].get_ylabel() for row in rows] == ["data", "reconstruction"]


def test_vectors_are_reconstructed_over_the_data():
    x = random(2, 6)
    figure = reconstructions(x, x + 1, x + 2, None, (6,))
    rows = np.array(figure.axes).reshape(3, 2)
    assert [line.get_color() for line in rows[0, 0].lines] == [BLUE]
    assert [line.get_color() for line in rows[2, 1].lines] == [GREY, BLUE]
    truth, drawn = (line.get_ydata() for line in rows[2, 1].lines)
    np.testing.assert_allclose(truth, x[1], rtol=1e-6)
    np.testing.assert_allclose(drawn, x[1] + 2, rtol=1e-6)
    assert "grey" in figure.get_suptitle()


def test_a_reconstruction_that_is_not_finite_is_drawn(tmp_path):
    x = random(2, 16)
    final = x.clone()
    final[0] = torch.nan
    figure = reconstructions(x, x + 1, final, None, SHAPE)
    assert figure.axes[-2].get_xlabel() == "nan"
    assert save(figure, tmp_path / "figure.png").stat().st_size > 1000


def test_prior_samples_need_no_gradient_or_centre():
    samples = random(4, 16).requires_grad_()
    figure = prior_samples(samples, torch.zeros(16), SHAPE)
    assert len(figure.axes) == 4
    assert "prior" in figure.get_suptitle()
    expected = samples[3].detach().reshape(4, 4)
    np.testing.assert_allclose(pixels(figure.axes[3])[..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "arguments", "told"),
    [
        (torch.zeros(0, 4), {}, "no examples"),
        (torch.zeros(2, 4), {"shape": (1, 3, 3)}, "4 values"),
        (torch.zeros(2, 4), {"mean": torch.zeros(3)}, "mean has 3 values"),
    ],
)
def test_what_does_not_fit_is_refused(images, arguments, told):
    with pytest.raises(InputError, match=told):
        image_grid(images, "", **arguments)
