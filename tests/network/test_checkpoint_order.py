"""Checkpoints with other names: when tensors are taken in order, and when they are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.network.test_checkpoints import network, same, stack
from torch import Tensor

from slim.errors import ModelError, SlimWarning
from slim.network.checkpoints import load_tensors, read_state_dict


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same list under another author's names."""
    return {f"part{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(state.items())}


def test_other_names_fit_in_order_where_every_shape_and_last_part_agrees() -> None:
    module, other = network(seed=0), network(seed=1)
    with pytest.warns(SlimWarning, match="taken in order"):
        load_tensors(module, renamed(other.state_dict()))
    assert same(module.state_dict(), other.state_dict())


def test_other_names_fit_in_order_with_another_head() -> None:
    module, other = network(2, seed=0), network(7, seed=1)
    head = module.fc.weight.detach().clone()
    with pytest.warns(SlimWarning, match="taken in order"):
        load_tensors(module, renamed(other.state_dict()), head="fc")
    assert torch.equal(module.conv.weight, other.conv.weight)
    assert torch.equal(module.fc.weight, head)


def swapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of the normalisation, which have one shape, the other way around."""
    order = sorted(state, key=lambda name: {"norm.bias": 2.0, "norm.weight": 2.5}.get(name, [*state].index(name)))
    return renamed({name: state[name] for name in order})


@pytest.mark.parametrize(
    "change",
    [
        lambda s: swapped(s),
        lambda s: dict(sorted(renamed(s).items(), reverse=True)),
        lambda s: {**renamed(s), "more.weight": torch.zeros(2)},
        lambda s: {name: t for name, t in renamed(s).items() if t.ndim != 4},
        lambda s: {name: t[:1] if t.ndim == 4 else t for name, t in renamed(s).items()},
    ],
    ids=["last parts swapped", "other order", "one more", "one less", "another shape"],
)
def test_other_names_are_refused_where_anything_disagrees(change: Callable[[Any], Any]) -> None:
    module = network(seed=0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ModelError, match=r"no tensor for .*unknown tensors"):
        load_tensors(module, change(dict(network(seed=1).state_dict())))
    assert same(module.state_dict(), before)


OTHER = {"conv": "first", "norm": "second", "fc": "third"}


def translated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same list under another author's words, in whose alphabet the layers happen to be in order."""
    return {f"{OTHER[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor for name, tensor in state.items()}


def test_safetensors_which_are_sorted_by_name_are_not_matched_in_their_order(tmp_path: Path) -> None:
    """A normalisation's weight and bias have one shape, and come the other way around than in the network."""
    save_file(translated(network(seed=1).state_dict()), tmp_path / "file.safetensors")
    with pytest.raises(ModelError, match="no tensor for"):
        load_tensors(network(), read_state_dict(tmp_path / "file.safetensors"))


@pytest.mark.parametrize(
    "words", [[f"layer{i}" for i in range(12)], ["twelve", "one", *"bcdefghijk"]], ids=["numbers", "words"]
)
def test_names_in_the_order_of_the_alphabet_are_not_matched_in_order(words: list[str]) -> None:
    named = {f"{word}.weight": tensor for word, tensor in zip(words, stack(12, 1).state_dict().values(), strict=True)}
    module = stack(12)
    with pytest.warns(SlimWarning, match="taken in order"):
        load_tensors(module, named)
    assert same(module.state_dict(), stack(12, 1).state_dict())
    with pytest.raises(ModelError, match="no tensor for"):
        load_tensors(stack(12), dict(sorted(named.items())))
