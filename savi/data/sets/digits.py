"""The digits that scikit-learn brings along: 1,797 images of 8x8 pixels, no download."""

import torch

from savi.data.raw import Examples, RawData
from savi.data.registry import DATASETS


@DATASETS.register("digits")
def digits() -> RawData:
    """Handwritten digits with 17 grey levels (Alpaydin and Kaynak 1998), in one split."""
    from sklearn.datasets import load_digits  # a second to import, and no other set needs it

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    return RawData(train=Examples(images, torch.from_numpy(bunch.target).long()), levels=17)
