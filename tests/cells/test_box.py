"""What holds for every cell of the box."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

import openrnn
from openrnn import Recurrent, cells
from openrnn.cells import Cell
from tests.cells.box import BOX, RANDOM, as_given, as_tuple, random_states

names = pytest.mark.parametrize("name", BOX)
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
biases = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


def test_the_box_is_complete() -> None:
    exported = {getattr(cells, name) for name in cells.__all__} - {Cell}
    made = {factory(4, 6).__class__ for factory in BOX.values()}
    # A parametrized cell is of a class that torch derives from its own.
    assert exported == {c.__base__ if c.__name__.startswith("Parametrized") else c for c in made}


# With I = 5 and H = 6.
PARAMETERS = {
    "RNNCell": {"weight_ih": (6, 5), "weight_hh": (6, 6), "bias_ih": (6,), "bias_hh": (6,)},
    "LSTMCell": {"weight_ih": (24, 5), "weight_hh": (24, 6), "bias_ih": (24,), "bias_hh": (24,)},
    "GRUCell": {"weight_ih": (18, 5), "weight_hh": (18, 6), "bias_ih": (18,), "bias_hh": (18,)},
    "MGUCell": {"weight_ih": (12, 5), "weight_hh": (12, 6), "bias_ih": (12,), "bias_hh": (12,)},
    "LSTMPCell": {
        "weight_ih": (24, 5),
        "weight_hh": (24, 3),
        "bias_ih": (24,),
        "bias_hh": (24,),
        "weight_hr": (3, 6),
    },
    "LayerNormLSTMCell": {
        "weight_ih": (24, 5),
        "weight_hh": (24, 6),
        "norm_ih.weight": (24,),
        "norm_ih.bias": (24,),
        "norm_hh.weight": (24,),
        "norm_hh.bias": (24,),
        "norm_c.weight": (6,),
        "norm_c.bias": (6,),
    },
    "LayerNormRNNCell": {
        "weight_ih": (6, 5),
        "weight_hh": (6, 6),
        "norm_ih.weight": (6,),
        "norm_ih.bias": (6,),
        "norm_hh.weight": (6,),
        "norm_hh.bias": (6,),
    },
    "LayerNormGRUCell": {
        "weight_ih": (18, 5),
        "weight_hh": (18, 6),
        "norm_ih.weight": (12,),
        "norm_ih.bias": (12,),
        "norm_hh.weight": (12,),
        "norm_hh.bias": (12,),
        "norm_in.weight": (6,),
        "norm_in.bias": (6,),
        "norm_hn.weight": (6,),
        "norm_hn.bias": (6,),
    },
    "WeightDropLSTMCell": {
        "weight_ih": (24, 5),
        "bias_ih": (24,),
        "bias_hh": (24,),
        "parametrizations.weight_hh.original": (24, 6),
    },
    "IndRNNCell": {"weight_ih": (6, 5), "weight_hh": (6,), "bias_ih": (6,)},
    "RHNCell": {"weight_ih": (12, 5), "weight_hh": (3, 12, 6), "bias_hh": (3, 12)},
    "SLSTMCell": {"weight_ih": (24, 5), "weight_hh": (4, 1, 6, 6), "bias_ih": (24,)},
    "SLSTMCell 2 heads": {"weight_ih": (24, 5), "weight_hh": (4, 2, 3, 3), "bias_ih": (24,)},
    "MinGRUCell": {"weight_ih": (12, 5), "bias_ih": (12,)},
    "MinLSTMCell": {"weight_ih": (18, 5), "bias_ih": (18,)},
}
PARAMETERS |= {
    "RNNCell relu": PARAMETERS["RNNCell"],
    "PeepholeLSTMCell": PARAMETERS["LSTMCell"] | {"peephole": (18,)},
    "CoupledLSTMCell": PARAMETERS["GRUCell"],
    "RecurrentDropoutLSTMCell": PARAMETERS["LSTMCell"],
    "ZoneoutLSTMCell": PARAMETERS["LSTMCell"],
    "ZoneoutGRUCell": PARAMETERS["GRUCell"],
    "OriginalGRUCell": PARAMETERS["GRUCell"],
    "IndRNNCell tanh": PARAMETERS["IndRNNCell"],
    "MultiplicativeLSTMCell": PARAMETERS["LSTMCell"] | {"weight_im": (6, 5), "weight_hm": (6, 6)},
    "QRNNCell f": PARAMETERS["MinGRUCell"],
    "QRNNCell fo": PARAMETERS["MinLSTMCell"],
}


@biases
@names
def test_parameters(name: str, bias: bool) -> None:
    expected = {k: s for k, s in PARAMETERS[name].items() if bias or "bias" not in k}
    cell = BOX[name](5, 6, bias=bias)
    assert {k: tuple(p.shape) for k, p in cell.named_parameters()} == expected
    for key, parameter in cell.named_parameters():
        if key.startswith("norm"):
            assert (parameter == (1 if key.endswith("weight") else 0)).all()
        elif (key, name.split()[0]) not in (("bias_hh", "RHNCell"), ("weight_hh", "IndRNNCell")):
            assert 0.2 < parameter.abs().max() <= 6**-0.5


@names
def test_reset_parameters_starts_again(name: str) -> None:
    cell = BOX[name](5, 6)
    old = {key: p.clone() for key, p in cell.named_parameters()}
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.fill_(7)
    cell.reset_parameters()
    for key, parameter in cell.named_parameters():
        assert not (parameter == 7).any()
        assert torch.equal(parameter, old[key]) == key.startswith("norm")


@pytest.mark.parametrize(
    ("name", "training"), [(n, False) for n in BOX] + [(n, True) for n in RANDOM]
)
def test_gradients(name: str, training: bool) -> None:
    layer = Recurrent(BOX[name](2, 4, dtype=torch.float64)).train(training)
    x = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True)
    states = random_states(layer.cell, 2, dtype=torch.float64)
    states = tuple(s.requires_grad_() for s in states)

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(3)  # the same masks each time
        output, final = layer(x, as_given(rest[: len(states)]))
        return (output, *as_tuple(final))

    assert torch.autograd.gradcheck(run, (x, *states, *layer.parameters()))


def test_gradients_of_slstm_from_zeros() -> None:
    layer = Recurrent(cells.SLSTMCell(2, 4, num_heads=2, dtype=torch.float64))
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x)[0], (x, *layer.parameters()))


@biases
@modes
@names
def test_every_block_of_every_parameter_gets_a_gradient(
    name: str, training: bool, bias: bool
) -> None:
    cell = BOX[name](5, 6, bias=bias).train(training)
    results = Recurrent(cell)(torch.randn(4, 20, 5), as_given(random_states(cell, 20)))
    sum(s.square().sum() for s in (results[0], *as_tuple(results[1]))).backward()
    for key, parameter in cell.named_parameters():
        assert parameter.grad is not None, key
        blocks = len(cell.gates) if parameter.size(0) % len(cell.gates) == 0 else 1
        assert all(block.any() for block in parameter.grad.chunk(blocks)), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@biases
@modes
@names
def test_recurrent_equals_the_loop(
    name: str, training: bool, bias: bool, dtype: torch.dtype
) -> None:
    cell = BOX[name](5, 6, bias=bias, dtype=dtype).train(training)
    x, states = torch.randn(6, 4, 5, dtype=dtype), random_states(cell, 4, dtype=dtype)
    torch.manual_seed(3)
    output, final = Recurrent(cell, backend="eager")(x, as_given(states))
    torch.manual_seed(3)
    with parametrize.cached():
        for t, x_t in enumerate(x):
            states = as_tuple(cell(x_t, as_given(states)))
            assert torch.equal(output[t], states[0])
    assert output.dtype == dtype
    torch.testing.assert_close(as_tuple(final), states, rtol=0, atol=0)


@names
def test_without_a_state_starts_from_zeros(name: str) -> None:
    cell = BOX[name](5, 6).eval()
    x = torch.randn(4, 5)
    zeros = tuple(torch.zeros(4, size) for size in cell.state_sizes.values())
    actual = as_tuple(cell(x))
    torch.testing.assert_close(actual, as_tuple(cell(x, as_given(zeros))), rtol=0, atol=0)
    assert all(s.isfinite().all() for s in actual)


@names
def test_rows_are_independent(name: str) -> None:
    cell = BOX[name](5, 6).double().eval()
    x, states = torch.randn(4, 5).double(), random_states(cell, 4, dtype=torch.float64)
    together = as_tuple(cell(x, as_given(states)))
    for row in range(4):
        alone = as_tuple(cell(x[row], as_given(tuple(s[row] for s in states))))  # without a batch
        torch.testing.assert_close(alone, tuple(s[row] for s in together))


@biases
@modes
@names
def test_empty_batch(name: str, training: bool, bias: bool) -> None:
    cell = BOX[name](5, 6, bias=bias).train(training)
    x = torch.randn(3, 0, 5, requires_grad=True)
    output, final = Recurrent(cell)(x)
    sizes = tuple(cell.state_sizes.values())
    assert output.shape == (3, 0, sizes[0])
    assert [s.shape for s in as_tuple(final)] == [(0, size) for size in sizes]
    output.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in cell.parameters())


@biases
@modes
@names
def test_on_the_meta_device(name: str, training: bool, bias: bool) -> None:
    """Where tensors have no values, a branch on one would fail."""
    cell = BOX[name](5, 6, bias=bias, device="meta").train(training)
    assert all(p.device.type == "meta" for p in cell.parameters())
    states = as_tuple(cell(torch.empty(4, 5, device="meta")))
    assert [s.shape for s in states] == [(4, size) for size in cell.state_sizes.values()]


@modes
@names
def test_a_step_leaves_the_cell_as_it_was(name: str, training: bool) -> None:
    cell = BOX[name](5, 6).train(training)
    before = copy.deepcopy(cell)
    cell(torch.randn(4, 5))
    for module, old in zip(cell.modules(), before.modules(), strict=True):
        assert vars(module).keys() == vars(old).keys()
    for key, value in before.state_dict().items():
        assert torch.equal(cell.state_dict()[key], value)


@names
def test_training_differs_only_where_the_cell_draws(name: str) -> None:
    cell = BOX[name](5, 6)
    x, state = torch.randn(4, 5), as_given(random_states(cell, 4))
    before = torch.get_rng_state()
    one, two = as_tuple(cell(x, state))[0], as_tuple(cell(x, state))[0]
    assert torch.equal(one, two) == (name not in RANDOM)
    assert torch.equal(torch.get_rng_state(), before) == (name not in RANDOM)
    before = torch.get_rng_state()
    cell.eval()
    assert torch.equal(as_tuple(cell(x, state))[0], as_tuple(cell(x, state))[0])
    assert torch.equal(torch.get_rng_state(), before)


@names
def test_deepcopy_and_pickle(name: str) -> None:
    cell = BOX[name](5, 6).eval()
    x = torch.randn(4, 5)
    twins = [copy.deepcopy(cell)]
    if name == "WeightDropLSTMCell":
        with pytest.raises(RuntimeError, match="only supported through state_dict"):
            pickle.dumps(cell)
    else:
        twins.append(pickle.loads(pickle.dumps(cell)))
    for other in twins:
        assert repr(other) == repr(cell)
        torch.testing.assert_close(other(x), cell(x), rtol=0, atol=0)


REPRS = {
    "PeepholeLSTMCell": "PeepholeLSTMCell(5, 6)",
    "RecurrentDropoutLSTMCell": "RecurrentDropoutLSTMCell(5, 6, dropout=0.3)",
    "ZoneoutLSTMCell": "ZoneoutLSTMCell(5, 6, zoneout_h=0.2, zoneout_c=0.4)",
    "ZoneoutGRUCell": "ZoneoutGRUCell(5, 6, zoneout=0.3)",
    "IndRNNCell": "IndRNNCell(5, 6, nonlinearity=relu)",
    "IndRNNCell tanh": "IndRNNCell(5, 6)",
    "RHNCell": "RHNCell(5, 6, depth=3)",
    "SLSTMCell 2 heads": "SLSTMCell(5, 6, num_heads=2)",
    "QRNNCell f": "QRNNCell(5, 6, pooling='f')",
}


@pytest.mark.parametrize("name", REPRS)
def test_repr(name: str) -> None:
    assert repr(BOX[name](5, 6)) == REPRS[name]
    without = repr(BOX[name](5, 6, bias=False))
    assert without == REPRS[name].replace("(5, 6", "(5, 6, bias=False")


def test_repr_with_parts() -> None:
    assert repr(cells.LayerNormLSTMCell(5, 6)).startswith("LayerNormLSTMCell(\n  5, 6\n  (norm_ih)")
    assert "5, 6, dropout=0.5" in repr(cells.WeightDropLSTMCell(5, 6, 0.5))
    assert repr(cells.RHNCell(5, 6, 2, transform_bias=-4)).endswith("transform_bias=-4.0)")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (cells.RecurrentDropoutLSTMCell, ["dropout"]),
        (cells.WeightDropLSTMCell, ["dropout"]),
        (cells.ZoneoutGRUCell, ["zoneout"]),
        (cells.ZoneoutLSTMCell, ["zoneout_h", "zoneout_c"]),
    ],
)
def test_bad_probabilities(cell: Any, names: list[str], value: Any) -> None:
    for name in names:
        message = rf"{cell.__name__}: expected {name} in the range 0 to 1, got {value!r}"
        with pytest.raises(openrnn.ArgumentError, match=message):
            cell(5, 6, **{**dict.fromkeys(names, 0.5), name: value})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cells.RHNCell(5, 6, 0), "RHNCell: expected depth to be an integer ≥ 1, got 0"),
        (lambda: cells.RHNCell(5, 6, 2.5), "depth to be an integer ≥ 1, got 2.5"),
        (lambda: cells.RHNCell(5, 6, True), "depth to be an integer ≥ 1, got True"),
        (
            lambda: cells.RHNCell(5, 6, 2, transform_bias=float("inf")),
            "RHNCell: expected transform_bias to be a finite number, got inf",
        ),
        (lambda: cells.SLSTMCell(5, 6, num_heads=0), "num_heads to be an integer ≥ 1, got 0"),
        (
            lambda: cells.SLSTMCell(5, 6, num_heads=4),
            "SLSTMCell: expected hidden_size to be a multiple of num_heads = 4, got 6",
        ),
        (
            lambda: cells.QRNNCell(5, 6, pooling="ifo"),
            "QRNNCell: expected pooling 'f' or 'fo', got 'ifo'",
        ),
        (
            lambda: cells.IndRNNCell(5, 6, nonlinearity="sigmoid"),
            "IndRNNCell: expected nonlinearity 'relu' or 'tanh', got 'sigmoid'",
        ),
        (
            lambda: cells.LayerNormLSTMCell(5, 6, eps=0),
            "LayerNormLSTMCell: expected eps between 0 and 1, both excluded, got 0",
        ),
        (lambda: cells.LayerNormGRUCell(5, 6, eps="small"), "LayerNormGRUCell: .*got 'small'"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(openrnn.ArgumentError, match=message):
        make()


@names
def test_bad_states(name: str) -> None:
    cell = BOX[name](5, 6)
    states = random_states(cell, 4)
    with pytest.raises(openrnn.ShapeError, match=r"expected state h of shape \(4, "):
        cell(torch.randn(4, 5), as_given((states[0][:, 1:], *states[1:])))
    with pytest.raises(openrnn.StateError, match=r"expected"):
        cell(torch.randn(4, 5), (*states, states[0]))
    with pytest.raises(openrnn.ShapeError, match="expected input_size 5"):
        cell(torch.randn(4, 6), as_given(states))
