"""The data sets that come with savi; importing this package registers them."""

from savi.data.sets import (
    arrays,
    celeba,
    cifar10,
    digits,
    linear_gaussian,
    lstm_oracle,
    mnist,
    omniglot,
    svhn,
    text,
)

__all__ = [
    "arrays",
    "celeba",
    "cifar10",
    "digits",
    "linear_gaussian",
    "lstm_oracle",
    "mnist",
    "omniglot",
    "svhn",
    "text",
]
