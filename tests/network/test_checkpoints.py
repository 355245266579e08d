"""Checkpoints: which files are understood, that none of them runs code, and that all or nothing is loaded."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from slim.errors import ModelError, SlimWarning
from slim.network import architectures, checkpoints
from slim.network.architectures import packaged_weights
from slim.network.checkpoints import load_tensors, read_checkpoint, read_state_dict, write_tensors


def network(classes: int = 2, width: int = 4, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(conv=nn.Conv2d(3, width, 3), norm=nn.BatchNorm2d(width), fc=nn.Linear(width, classes))
        )


def stack(n: int, seed: int = 0) -> nn.Sequential:
    """Layers of the same shape, without biases: nothing but names and their order tells them apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(n)))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


WRITTEN: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "a bare state_dict": lambda state: state,
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "optimizer": {"lr": 0.1}},
    "state_dict": lambda state: {"state_dict": state, "best": 0.5},
    "model": lambda state: {"model": state, "args": [1, 2]},
    "WILDS": lambda state: {"algorithm": prefixed("model.", state), "epoch": 9, "best_val_metric": 0.8},
    "WILDS with DataParallel": lambda state: {"algorithm": prefixed("model.module.", state), "epoch": 9},
    "Lightning": lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2.0"},
    "DataParallel": lambda state: prefixed("module.", state),
    "nested prefixes": lambda state: prefixed("module.model.module.", state),
    "nested wrappers": lambda state: {"model": {"state_dict": prefixed("module.", state)}},
}


@pytest.mark.parametrize("layout", WRITTEN)
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_found_by_name_in(layout: str, zipped: bool, tmp_path: Path) -> None:
    state = dict(network().state_dict())
    torch.save(WRITTEN[layout](state), tmp_path / "file.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(tmp_path / "file.pt"), state)


@pytest.mark.parametrize("prefix", ["", "module.", "model.module."])
def test_tensors_are_found_by_name_in_safetensors(prefix: str, tmp_path: Path) -> None:
    state = dict(network().state_dict())
    save_file(prefixed(prefix, state), tmp_path / "file.safetensors")
    assert same(read_state_dict(tmp_path / "file.safetensors"), state)


def test_a_prefix_that_only_some_names_carry_is_kept(tmp_path: Path) -> None:
    state = {"model.weight": torch.zeros(2), "scale": torch.ones(1)}
    torch.save(state, tmp_path / "file.pt")
    assert same(read_state_dict(tmp_path / "file.pt"), state)


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["file.pt", "file.pth", "file.bin", "file.safetensors"])
@pytest.mark.parametrize("how", ["zip", "legacy", "bare pickle"])
def test_code_in_a_pickle_is_refused_and_never_runs(name: str, how: str, tmp_path: Path) -> None:
    target, file = tmp_path / "was-run", tmp_path / name
    content = {"state_dict": {"weight": torch.zeros(2)}, "extra": Malicious(target)}
    if how == "bare pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ModelError, match=r"code in a file is never run|must be a safetensors file"):
        read_state_dict(file)
    assert not target.exists()


def test_the_malicious_pickle_of_these_tests_does_run_elsewhere(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    target = tmp_path / "was-run"
    pickle.loads(pickle.dumps(Malicious(target)))
    assert target.exists()


def test_a_pickled_module_is_refused_with_the_way_to_save_it_again(tmp_path: Path) -> None:
    torch.save({"model": network()}, tmp_path / "file.pt")
    with pytest.raises(ModelError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        read_state_dict(tmp_path / "file.pt")


@pytest.mark.parametrize("path", ["missing.pt", "missing.safetensors", ""])
def test_a_missing_file_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="which does not exist") as error:
        read_state_dict(tmp_path / path)
    assert str(tmp_path / path) in str(error.value)


@pytest.mark.parametrize("name", ["file.pt", "file.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02.", b"PK\x03\x04", b"(((tR.", bytes(range(256))])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_state_dict(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(data=st.data(), zipped=st.booleans())
def test_a_damaged_file_raises_nothing_but_a_model_error(data: st.DataObject, zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "file.pt"
    torch.save({"weight": torch.zeros(3)}, file, _use_new_zipfile_serialization=zipped)
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        tensors = read_state_dict(file)
    except ModelError as error:
        assert "file.pt" in str(error)  # noqa: PT017 (either outcome is right, nothing else is)
    else:
        assert all(isinstance(tensor, Tensor) for tensor in tensors.values())


@pytest.mark.parametrize(
    ("content", "described"), [({"epoch": 3}, "epoch"), ([1, 2], "list"), ({}, "nothing"), (torch.zeros(2), "Tensor")]
)
def test_a_file_without_a_state_dict_says_what_it_holds(content: Any, described: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(ModelError, match=f"Got {described}"):
        read_state_dict(tmp_path / "file.pt")


def test_loading_takes_every_tensor() -> None:
    module, other = network(seed=0), network(seed=1)
    other.norm.running_mean += 3
    load_tensors(module, dict(other.state_dict()))
    assert same(module.state_dict(), other.state_dict())


def test_a_file_without_batch_counters_fits() -> None:
    module, other = network(seed=0), network(seed=1)
    state = {name: t for name, t in other.state_dict().items() if not name.endswith("num_batches_tracked")}
    load_tensors(module, state)
    assert torch.equal(module.conv.weight, other.conv.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv.weight"), r"no tensor for conv\.weight"),
        (
            lambda s: s.update(extra=torch.zeros(1)),
            "unknown tensors extra. Leave them out if they are not",
        ),
        (lambda s: s.update({"fc.weight": torch.zeros(5, 4)}), r"another shape for fc\.weight \(5x4 for 2x4\)"),
        (lambda s: s.update({f"more{i}": torch.zeros(1) for i in range(5)}), "more0, more1, more2 and 2 more"),
    ],
)
def test_a_mismatch_names_the_tensors_and_changes_nothing(change: Callable[[Any], Any], message: str) -> None:
    module, state = network(seed=0), dict(network(seed=1).state_dict())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    change(state)
    with pytest.raises(ModelError, match=message):
        load_tensors(module, state)
    assert same(module.state_dict(), before)


def test_a_head_of_another_number_of_classes_keeps_its_own_values_when_it_is_named() -> None:
    module, other = network(2, seed=0), network(7, seed=1)
    head = module.fc.weight.detach().clone()
    with pytest.raises(ModelError, match=r"fc\.weight \(7x4 for 2x4\)"):
        load_tensors(module, dict(other.state_dict()))
    load_tensors(module, dict(other.state_dict()), head="fc")
    assert torch.equal(module.fc.weight, head)
    assert torch.equal(module.conv.weight, other.conv.weight)


def test_a_head_of_the_same_number_of_classes_is_taken() -> None:
    module, other = network(2, seed=0), network(2, seed=1)
    load_tensors(module, dict(other.state_dict()), head="fc")
    assert torch.equal(module.fc.weight, other.fc.weight)


@pytest.mark.parametrize("order", [list, sorted])
@pytest.mark.parametrize(
    "prefix", ["backbone.", "net.encoder.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "m._orig_mod.x."]
)
def test_a_prefix_is_found_by_names_in_whatever_order(prefix: str, order: Callable[[Any], Any], tmp_path: Path) -> None:
    module, other = stack(12), stack(12, 1)
    state = other.state_dict()
    torch.save({"state_dict": {f"{prefix}{name}": state[name] for name in order(state)}}, tmp_path / "file.pt")
    load_tensors(module, read_state_dict(tmp_path / "file.pt"))
    assert same(module.state_dict(), state)


@pytest.mark.parametrize("part", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_what_is_inserted_into_names_is_dropped(part: str, tmp_path: Path) -> None:
    module, other = network(seed=0), network(seed=1)
    state = {name.replace(".", f".{part}"): tensor for name, tensor in other.state_dict().items()}
    torch.save(state, tmp_path / "file.pt")
    load_tensors(module, read_state_dict(tmp_path / "file.pt"))
    assert same(module.state_dict(), other.state_dict())


@pytest.mark.parametrize("beside", ["criterion.weight", "loss.model.weight", "temperature"])
def test_what_is_kept_beside_the_network_is_left_out_with_a_warning(beside: str) -> None:
    module, other = network(seed=0), network(seed=1)
    with pytest.warns(SlimWarning, match=f"left out: {beside}"):
        load_tensors(module, {**prefixed("model.", dict(other.state_dict())), beside: torch.ones(2)})
    assert same(module.state_dict(), other.state_dict())


def test_a_prefix_with_another_head_gives_the_rest() -> None:
    module, other = network(2, seed=0), network(7, seed=1)
    state = prefixed("backbone.", {n: t for n, t in other.state_dict().items() if not n.startswith("fc.")})
    with pytest.raises(ModelError, match=r"no tensor for fc\.bias, fc\.weight; unknown tensors head\.weight"):
        load_tensors(network(), {**state, "head.weight": torch.zeros(7, 4)})
    with pytest.warns(SlimWarning, match=r"left out: head\.weight"):
        load_tensors(module, {**state, "head.weight": torch.zeros(7, 4)}, head="fc")
    assert torch.equal(module.conv.weight, other.conv.weight)


def test_a_file_of_two_networks_is_refused() -> None:
    state = dict(network(seed=1).state_dict())
    with pytest.raises(ModelError, match=r"one network that fits\. Got 2, under student\., teacher\."):
        load_tensors(network(), prefixed("teacher.", state) | prefixed("student.", state))


def test_the_networks_own_names_come_before_a_copy_under_a_prefix() -> None:
    module, state = network(seed=0), dict(network(seed=1).state_dict())
    with pytest.raises(ModelError, match=r"unknown tensors ema\.conv\.bias"):
        load_tensors(module, state | prefixed("ema.", dict(network(seed=2).state_dict())))


def test_a_network_without_tensors_takes_none() -> None:
    load_tensors(nn.ReLU(), {})
    with pytest.raises(ModelError, match="unknown tensors weight"):
        load_tensors(nn.ReLU(), {"weight": torch.zeros(1)})


def test_a_checkpoint_of_other_classes_says_how_many() -> None:
    with pytest.raises(ModelError, match=r"It has 7 classes: give those"):
        load_tensors(network(2), dict(network(7).state_dict()))
    with pytest.raises(ModelError, match=r"--arch"):
        load_tensors(network(2), dict(network(2, width=5).state_dict()))


def test_the_format_is_recognised_by_its_content(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    save_file(state, tmp_path / "file.pt")
    torch.save(state, tmp_path / "file.safetensors")
    torch.save(state, tmp_path / "legacy.safetensors", _use_new_zipfile_serialization=False)
    for name in ("file.pt", "file.safetensors", "legacy.safetensors"):
        assert same(read_state_dict(tmp_path / name), state)


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    module = nn.ModuleDict({"one": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
    module["other"].weight = module["one"].weight
    write_tensors(tmp_path / "file.safetensors", module.state_dict())
    assert same(read_state_dict(tmp_path / "file.safetensors"), module.state_dict())


def test_disk_that_is_full_is_an_error_of_the_system_with_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tensors(tmp_path / "file.safetensors", network().state_dict())
    before = (tmp_path / "file.safetensors").read_bytes()

    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=r"No space left on device: .*file\.safetensors"):
        write_tensors(tmp_path / "file.safetensors", network().state_dict())
    assert (tmp_path / "file.safetensors").read_bytes() == before


class Wrapped(nn.Module):
    """All of its names begin with a prefix that reading drops, and its layers are not in order of name."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.model = nn.Sequential(OrderedDict(z=nn.Linear(2, 2), a=nn.Linear(2, 2), norm=nn.BatchNorm1d(2)))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
                seed += 100


@pytest.mark.parametrize("name", ["file.pt", "file.safetensors"])
def test_a_network_whose_own_names_begin_with_a_dropped_prefix_loads(name: str, tmp_path: Path) -> None:
    module, other = Wrapped(0), Wrapped(1)
    if name.endswith("pt"):
        torch.save(other.state_dict(), tmp_path / name)
    else:
        save_file(dict(other.state_dict()), tmp_path / name)
    load_tensors(module, read_state_dict(tmp_path / name))
    assert same(module.state_dict(), other.state_dict())


def test_without_the_package_there_are_no_packaged_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "find_spec", lambda _: None)
    assert packaged_weights("tf_efficientnet_lite0") is None


def test_only_the_packaged_architecture_has_packaged_weights() -> None:
    assert packaged_weights("resnet50") is None
    file = packaged_weights("tf_efficientnet_lite0")
    assert file is not None
    assert file.is_file()


@pytest.mark.parametrize("value", [torch.int8, torch.bool])
def test_numbers_that_are_not_floating_point_are_refused(value: torch.dtype) -> None:
    tensors = {name: t.to(value) if name == "conv.weight" else t for name, t in network().state_dict().items()}
    with pytest.raises(ModelError, match=r"Got no floating-point numbers for conv\.weight"):
        load_tensors(network(), tensors)


def test_nan_in_a_checkpoint_is_refused() -> None:
    module, tensors = network(), network().state_dict()
    tensors["conv.weight"].view(-1)[0] = float("nan")
    with pytest.raises(ModelError, match=r"must hold numbers. Got NaN in conv\.weight"):
        load_tensors(module, tensors)


@pytest.mark.parametrize(
    "beside",
    [
        {"class_names": ["dog", "cat"]},
        {"classes": ("dog", "cat")},
        {"class_to_idx": {"cat": 1, "dog": 0}},
        {"idx_to_class": {0: "dog", 1: "cat"}},
        {"idx_to_class": {"1": "cat", "0": "dog"}},
    ],
)
def test_names_of_classes_beside_the_tensors_are_read(beside: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"state_dict": network().state_dict(), **beside}, tmp_path / "file.pt")
    assert read_checkpoint(tmp_path / "file.pt")[1] == ("dog", "cat")


def test_what_is_no_list_of_names_is_not_taken_for_one(tmp_path: Path) -> None:
    for value in ({"classes": 2}, {"class_names": None}, {"class_to_idx": {"cat": 1, "dog": 5}}):
        torch.save({"state_dict": network().state_dict(), **value}, tmp_path / "file.pt")
        assert read_checkpoint(tmp_path / "file.pt")[1] is None
