"""torch's own samples and error samples for the six recurrent modules, run on ours."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

import openrnn

# torch's test code, when it is imported, forbids the whole process to set backend flags, which
# Lightning does. Allow it again, for as long as this lives.
_flags_may_be_set = torch.backends.__allow_nonbracketed_mutation()
_flags_may_be_set.__enter__()

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
INFOS = {info.module_cls.__name__: info for info in module_db if info.module_cls.__name__ in NAMES}


def samples(name: str, dtype: torch.dtype, training: bool) -> list[Any]:
    info = INFOS[name]
    options = {"with_packed_sequence": True} if name in ("RNN", "GRU") else {}
    return list(
        info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=True, training=training, **options
        )
    )


def construct(name: str, sample: Any) -> Any:
    given = sample.constructor_input
    return getattr(openrnn, name)(*given.args, **given.kwargs)


def test_all_six_are_in_torchs_table() -> None:
    assert set(INFOS) == set(NAMES)
    assert all(samples(name, torch.float64, True) for name in NAMES)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str, training: bool) -> None:
    for sample in samples(name, torch.float64, training):
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        theirs = INFOS[name].module_cls(*args, dtype=torch.float64, **kwargs).train(training)
        ours = getattr(openrnn, name)(*args, dtype=torch.float64, **kwargs).train(training)
        ours.load_state_dict(theirs.state_dict())
        forward = sample.forward_input
        torch.testing.assert_close(
            ours(*forward.args, **forward.kwargs), theirs(*forward.args, **forward.kwargs)
        )


@pytest.mark.parametrize("name", NAMES)
def test_error_samples(name: str) -> None:
    info = INFOS[name]
    errors = list(
        info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
        )
    )
    assert errors
    for error in errors:
        sample = error.module_error_input
        if error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(error.error_type, match=error.error_regex):
                construct(name, sample)
            continue
        ours, forward = construct(name, sample), sample.forward_input
        with pytest.raises(error.error_type) as caught:
            ours(*forward.args, **forward.kwargs)
        # Our words are our own, but each number that torch names stands in them too.
        assert isinstance(caught.value, openrnn.OpenRNNError)
        numbers = re.findall(r"(?:got|expected|size) (\d+)\b", error.error_regex)
        assert all(number in str(caught.value) for number in numbers), str(caught.value)
