"""Randomness is a pure function of what it is for."""

import torch

from lora_diffusion.seeds import generator, seed_of


def test_the_same_purpose_draws_the_same_numbers():
    assert torch.equal(
        torch.randn(4, generator=generator(1, 2, "noise")), torch.randn(4, generator=generator(1, 2, "noise"))
    )


def test_every_part_of_the_purpose_counts_and_parts_do_not_run_together():
    seeds = {seed_of(0), seed_of(1), seed_of(0, 1), seed_of(0, "1", "2"), seed_of(0, "12"), seed_of(0, 1, "noise")}
    assert len(seeds) == 6


def test_seeds_are_the_same_on_every_machine():
    assert seed_of(7, 3, "noise") == 2617490813238054733


def test_global_state_is_left_alone():
    before = torch.get_rng_state()
    torch.randn(3, generator=generator(5, "x"))
    assert torch.equal(torch.get_rng_state(), before)
