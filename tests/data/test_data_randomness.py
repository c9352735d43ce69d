import torch

from savi.data.randomness import generator


def draw(purpose: str, *key: int) -> torch.Tensor:
    return torch.rand(4, generator=generator(purpose, *key))


def test_same_key_same_numbers_and_any_other_key_others():
    assert torch.equal(draw("order", 1, 2), draw("order", 1, 2))
    for other in (draw("noise", 1, 2), draw("order", 2, 1), draw("order", 1), draw("order", 1, 3)):
        assert not torch.equal(draw("order", 1, 2), other)


def test_global_random_state_does_not_matter_and_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draw("order", 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(draw("order", 1), first)
