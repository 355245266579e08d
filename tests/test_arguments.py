"""Arguments of another kind: every public function says which one is meant."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import slim
from slim.arguments import checked
from slim.errors import SlimError

FUNCTIONS = [name for name in slim.__all__ if inspect.isfunction(getattr(slim, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_function_refuses_arguments_of_no_sensible_kind(name: str) -> None:
    function = getattr(slim, name)
    required = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    positional = [object() for one in required if one.kind is not one.KEYWORD_ONLY]
    named = {one.name: object() for one in required if one.kind is one.KEYWORD_ONLY}
    with pytest.raises(SlimError):
        function(*positional, **named)


def test_swapped_arguments_are_named() -> None:
    settings = slim.AttendSettings()
    with pytest.raises(
        SlimError, match=r"data of slim.attend must be of type Dataset. Got AttendSettings. .* as settings."
    ):
        slim.attend(settings, settings)  # type: ignore[arg-type]
    with pytest.raises(SlimError, match=r"slim.train must be of type Dataset. Got str. slim.load_dataset makes one."):
        slim.train("waterbirds")  # type: ignore[arg-type]
    with pytest.raises(SlimError, match=r"slim.embed must be of type Attention. Got None. See help"):
        slim.embed(None)  # type: ignore[arg-type]


def test_numbers_of_numpy_and_none_where_it_is_allowed_pass() -> None:
    @checked
    def double(number: int, share: float = 0.5, name: str | None = None) -> float:
        return number * share

    assert double(np.int64(4), np.float32(0.25), None) == 1
    assert double(True, share=1) == 1
    with pytest.raises(SlimError, match="number of slim.double must be of type int. Got float"):
        double(4.0)  # type: ignore[arg-type]
