import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from savi.errors import InputError
from savi.report.figures import latent_scatter, save
from savi.report.figures.style import BLUE

GENERATOR = torch.Generator().manual_seed(0)


def means(n, d):
    return torch.randn(n, d, generator=GENERATOR)


def points(figure):
    return np.asarray(figure.axes[0].collections[0].get_offsets())


def colours(figure):
    return np.unique(figure.axes[0].collections[0].get_facecolor(), axis=0)


def test_two_dimensions_are_drawn_as_they_are():
    z = means(50, 2)
    figure = latent_scatter(z)
    np.testing.assert_allclose(points(figure), z, rtol=1e-6)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")
    assert figure.get_suptitle() == "Posterior means of 50 examples"
    assert not figure.legends


def test_more_dimensions_are_projected_on_their_principal_components():
    scores = means(200, 2) * torch.tensor([5.0, 2.0])
    basis, _ = torch.linalg.qr(means(6, 2))
    figure = latent_scatter(scores @ basis.T + 3.0)
    drawn = points(figure)
    # The plane holds all of the variance, so that distances are those of the data.
    assert drawn[:, 0].std() > drawn[:, 1].std()
    distance = np.linalg.norm(drawn[0] - drawn[1:], axis=1)
    np.testing.assert_allclose(distance, (scores[0] - scores[1:]).norm(dim=1), rtol=1e-4)
    (axes,) = figure.axes
    share = np.var(drawn[:, 0]) / np.var(drawn, axis=0).sum()
    assert axes.get_xlabel() == f"first principal component ({share:.0%} of the variance)"
    assert axes.get_ylabel().startswith("second principal component")


def test_one_dimension_is_a_strip_with_a_row_for_each_class():
    z, labels = means(30, 1), torch.arange(30) % 3
    drawn = points(latent_scatter(z, labels))
    np.testing.assert_allclose(drawn[:, 0], z[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(np.round(-drawn[:, 1]), labels)


def test_classes_have_colours_and_a_legend():
    labels = torch.tensor([7, 1, 7, 4] * 5)
    figure = latent_scatter(means(20, 2), labels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1", "4", "7"]
    face = figure.axes[0].collections[0].get_facecolor()
    assert len(colours(figure)) == 3
    np.testing.assert_array_equal(face[0], face[2])


@pytest.mark.parametrize("labels", [None, torch.arange(40), torch.zeros(40, dtype=torch.long)])
def test_without_classes_that_can_be_told_apart_there_is_one_colour(labels):
    figure = latent_scatter(means(40, 3), labels)
    assert not figure.legends
    np.testing.assert_allclose(colours(figure), [to_rgba(BLUE, 0.8)])


def test_means_that_are_not_finite_are_left_out_and_counted(tmp_path):
    z = means(10, 4)
    z[3, 0] = torch.nan
    figure = latent_scatter(z, torch.arange(10))
    assert len(points(figure)) == 9
    assert figure.axes[0].get_xlabel().endswith("(1 value not finite)")
    assert save(figure, tmp_path / "scatter.png").stat().st_size > 1000
    (axes,) = latent_scatter(torch.full((3, 2), torch.inf)).axes
    assert [text.get_text() for text in axes.texts] == ["No posterior mean is finite"]


@pytest.mark.parametrize("z", [torch.ones(1, 5), torch.ones(4, 5), torch.ones(1, 1)])
def test_means_that_do_not_vary_are_drawn(z, tmp_path):
    assert save(latent_scatter(z), tmp_path / "scatter.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("z", "labels", "told"),
    [
        (torch.ones(0, 2), None, "pass [N, d]"),
        (torch.ones(3), None, "pass [N, d]"),
        (torch.ones(3, 2), torch.zeros(2), "3 means with 2 labels"),
    ],
)
def test_what_does_not_fit_is_refused(z, labels, told):
    with pytest.raises(InputError) as error:
        latent_scatter(z, labels)
    assert told in str(error.value)
