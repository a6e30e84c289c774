"""Layers over time: lengths, resets, states of all steps, learned states, regularisers, parts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import openrnn
from openrnn import GRU, LSTM, RNN, Bidirectional, Recurrent, Stack, cells
from tests.cells.box import BOX, RANDOM
from tests.contract.evaluate import Results, evaluate
from tests.contract.test_time import CUT, LENGTHS, RESET, STATE, Case, behind

STEPS, BATCH, INPUT, HIDDEN = 6, 5, 5, 6


def two(backend: str, merge: str) -> Stack:
    """Two cells in two directions, and one above."""
    below = openrnn.GRUCell(INPUT, 4), openrnn.LSTMCell(INPUT, 4)
    return Stack(
        [
            Bidirectional(*below, merge=merge, backend=backend),
            openrnn.GRUCell(8 if merge == "concat" else 4, 4),
        ],
        backend=backend,
    )


def mixed(backend: str) -> Stack:
    """All kinds of layers."""
    return Stack(
        [
            nn.GRUCell(INPUT, 6),
            Bidirectional(nn.LSTMCell(6, 4), nn.LSTMCell(6, 4), backend=backend),
            LSTM(8, 6, num_layers=2, backend=backend),
            Recurrent(openrnn.RNNCell(6, 3), reverse=True, backend=backend),
            Stack([openrnn.GRUCell(3, 3)], residual=True, backend=backend),
        ],
        residual=True,
        backend=backend,
    )


LAYERS: dict[str, Callable[[str], Any]] = {
    "LSTM": lambda backend: LSTM(
        INPUT, HIDDEN, 2, batch_first=True, bidirectional=True, proj_size=3, backend=backend
    ),
    "GRU": lambda backend: GRU(INPUT, HIDDEN, 2, backend=backend),
    "RNN": lambda backend: RNN(INPUT, HIDDEN, bidirectional=True, backend=backend),
    "concat": lambda backend: two(backend, "concat"),
    "sum": lambda backend: two(backend, "sum"),
    "mean": lambda backend: two(backend, "mean"),
    "mixed": mixed,
}
CASES = {
    "lengths": Case(LENGTHS),
    "reset to default": Case(None, RESET, "default"),
    "lengths and reset": Case(LENGTHS, CUT),
    "lengths and reset to a state": Case(LENGTHS, CUT, STATE),
}
layers = pytest.mark.parametrize("name", LAYERS)
each_backend = pytest.mark.parametrize("backend", ["eager", "cpu"])
drop_ins = pytest.mark.parametrize("kind", [RNN, LSTM, GRU], ids=["RNN", "LSTM", "GRU"])


def on_tensors(function: Callable[..., Any], *states: Any) -> Any:
    """Of states that are nested alike, the state with what the function makes of their tensors."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return tuple(on_tensors(function, *parts) for parts in zip(*states, strict=True))


def row(state: Any, b: int) -> Any:
    return on_tensors(lambda s: s.select(-2, b), state)


def random_states(layer: Any, count: int = BATCH) -> Any:
    """A state of the layer's form."""
    x = torch.randn(1, count, INPUT, dtype=next(layer.parameters()).dtype)
    with torch.no_grad():
        _, state = layer(x.transpose(0, 1) if layer.batch_first else x)
    return on_tensors(torch.randn_like, state)


def of_directions(layer: Any, forward: Any, backward: Any) -> Any:
    """Of two states, the parts of one that run forward, and of the other that run backward."""
    if isinstance(layer, Stack):
        parts = zip(layer.layers, forward, backward, strict=True)
        return tuple(of_directions(*part) for part in parts)
    if isinstance(layer, Bidirectional):
        return forward[0], backward[1]
    if isinstance(layer, Recurrent):
        return backward if layer.reverse else forward
    number = torch.arange(layer.num_layers * (1 + layer.bidirectional))
    of_backward = (number % 2 == 1).unsqueeze(1) & layer.bidirectional
    return on_tensors(lambda f, b: torch.where(of_backward, b, f), forward, backward)


class Called(nn.Module):
    """A layer as a function of x (T, B, I) and two states, the initial one and that after a reset.

    It gives the output (T, B, H), the final states, and those of all steps.
    """

    def __init__(self, layer: Any, case: Case) -> None:
        super().__init__()
        self.layer, self.case = layer, case

    def forward(self, x: Tensor, given: Any) -> Any:
        torch.manual_seed(7)
        state, again = given
        lengths, reset, reset_to = self.case
        if self.layer.batch_first:
            x, reset = x.transpose(0, 1), reset if reset is None else reset.t()
        output, final, states = self.layer(
            x,
            state,
            lengths=lengths,
            reset=reset,
            reset_to=again if reset_to == STATE else reset_to,
            return_states=True,
        )
        return output.transpose(0, 1) if self.layer.batch_first else output, (final, states)


class Apart(Called):
    """The same from a call of the layer for each piece of each sequence."""

    def forward(self, x: Tensor, given: Any) -> Any:
        state, again = given
        if self.case.reset_to == "default":
            again = on_tensors(torch.zeros_like, state)
        again = state if again is None else again
        runs = [self._run(x[:, b], b, row(state, b), row(again, b)) for b in range(x.size(1))]
        outputs, *rest = zip(*runs, strict=True)
        final, states = (on_tensors(lambda *s: torch.stack(s, -2), *rows) for rows in rest)
        return torch.stack(outputs, 1), (final, states)

    def _run(self, x: Tensor, b: int, state: Any, again: Any) -> tuple[Tensor, Any, Any]:
        lengths, reset, _ = self.case
        length = len(x) if lengths is None else int(lengths[b])
        cuts = [t for t in range(length) if t == 0 or (reset is not None and reset[t, b])]
        is_cut = reset is not None and bool(reset[0, b])
        runs = []
        for number, start in enumerate(cuts):
            end = cuts[number + 1] if start != cuts[-1] else length
            begin = of_directions(
                self.layer,
                again if number > 0 or is_cut else state,
                again if start != cuts[-1] else state,
            )
            runs.append(self.layer(x[start:end], begin, return_states=True))
        # One step more, for the shapes; nothing is left of it.
        runs.append(self.layer(torch.zeros_like(x[:1]), state, return_states=True))
        outputs, final, states = zip(*runs, strict=True)
        last = of_directions(self.layer, final[-2], final[0]) if cuts else state

        def padded(*steps: Tensor) -> Tensor:
            rows = torch.cat(steps)[:length]
            return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, len(x) - length))

        return padded(*outputs), last, on_tensors(padded, *states)


@each_backend
@pytest.mark.parametrize("case", CASES)
@layers
def test_equals_the_pieces_alone(name: str, case: str, backend: str) -> None:
    """Outputs, states and all gradients; what is not read is NaN."""
    layer, eager = LAYERS[name](backend), LAYERS[name]("eager")
    eager.load_state_dict(layer.state_dict())
    x, given = torch.randn(STEPS, BATCH, INPUT), (random_states(layer), random_states(layer))
    if CASES[case].lengths is not None:
        x[behind(LENGTHS)] = torch.nan
    if CASES[case].reset_to != STATE:
        given = (given[0], None)
    ours = evaluate(Called(layer, CASES[case]), x, given, torch.float64)
    truth = evaluate(Apart(eager, CASES[case]), x, given, torch.float64)
    torch.testing.assert_close(ours, truth)
    if CASES[case].lengths is not None:
        for name, result in ours.items():
            if name in ("output", "gradient of input") or name.startswith("final.1"):
                steps = result.movedim(-2, 1)  # the states have layers before the batch
                assert (steps[behind(LENGTHS)] == 0).all(), name


# --- how the input lies ---


@pytest.mark.parametrize("name", ["LSTM", "mixed"])
@pytest.mark.parametrize("reset", [None, CUT], ids=["no-reset", "reset"])
@pytest.mark.parametrize("lengths", [[6, 5, 3, 3, 1], [3, 1, 6, 3, 5]], ids=["sorted", "unsorted"])
def test_packed_is_as_padded(lengths: list[int], reset: Tensor | None, name: str) -> None:
    """With resets in the order of the user's sequences, time first as the data is."""
    layer = LAYERS[name]("cpu").double()
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    state, again = random_states(layer), random_states(layer)
    options: dict[str, Any] = {"return_states": True}
    if reset is not None:
        options |= {"reset": reset, "reset_to": again}
    enforce_sorted = lengths == sorted(lengths, reverse=True)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=enforce_sorted)
    packed_output, *rest = layer(packed, state, **options)
    assert isinstance(packed_output, PackedSequence)
    for ours, theirs in zip(packed_output[1:], packed[1:], strict=True):
        assert ours is theirs or torch.equal(ours, theirs)
    if layer.batch_first:
        x = x.transpose(0, 1)
        options |= {"reset": options["reset"].t()} if reset is not None else {}
    expected, *of_padded = layer(x, state, lengths=lengths, **options)
    output, _ = pad_packed_sequence(packed_output, batch_first=layer.batch_first)
    torch.testing.assert_close([output, *rest], [expected, *of_padded], rtol=0, atol=0)


@pytest.mark.parametrize("length", [None, 0, 1, 4, torch.tensor(4), torch.tensor(6)])
@pytest.mark.parametrize("name", ["LSTM", "RNN", "mixed"])
def test_without_a_batch(name: str, length: Any) -> None:
    layer = LAYERS[name]("cpu").double()
    x = torch.randn(STEPS, INPUT, dtype=torch.float64)
    state, again = random_states(layer, 1), random_states(layer, 1)
    reset = CUT[:, 4]  # a column: not one after the other in memory
    actual = layer(
        x, row(state, 0), lengths=length, reset=reset, reset_to=row(again, 0), return_states=True
    )
    dim = 0 if layer.batch_first else 1
    expected, *rest = layer(
        x.unsqueeze(dim),
        state,
        lengths=None if length is None else [int(length)],
        reset=reset.clone().unsqueeze(dim),
        reset_to=again,
        return_states=True,
    )
    expected = (expected.squeeze(dim), *(row(states, 0) for states in rest))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


INTEGERS = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64),
)


@pytest.mark.parametrize(
    "give",
    [list, tuple, *(lambda n, d=dtype: torch.tensor(n, dtype=d) for dtype in INTEGERS)],
    ids=["list", "tuple", *map(str, INTEGERS)],
)
def test_lengths_of_any_kind(give: Callable[[list[int]], Any]) -> None:
    layer, x = GRU(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT)
    expected = layer(x, lengths=LENGTHS)
    torch.testing.assert_close(layer(x, lengths=give(LENGTHS.tolist())), expected, rtol=0, atol=0)


@each_backend
@pytest.mark.parametrize("with_lengths", [False, True], ids=["reset", "lengths and reset"])
@pytest.mark.parametrize("count", [1, BATCH])
def test_what_lies_apart_in_memory(count: int, with_lengths: bool, backend: str) -> None:
    layer = GRU(INPUT, HIDDEN, backend=backend).double()
    x = torch.randn(STEPS, count, INPUT, dtype=torch.float64)
    lengths, reset = LENGTHS[-count:], CUT[:, -count:].clone()
    expected = layer(x, lengths=lengths if with_lengths else None, reset=reset)
    lengths, reset, x = (torch.stack((t, t), -1)[..., 0] for t in (lengths, reset, x))
    actual = layer(x, lengths=lengths if with_lengths else None, reset=reset)
    torch.testing.assert_close(actual, expected)
    reset = reset.t().contiguous().t()
    actual = layer(x, lengths=lengths if with_lengths else None, reset=reset)
    torch.testing.assert_close(actual, expected)


@each_backend
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("with_lengths", [False, True], ids=["reset", "lengths and reset"])
def test_lengths_and_resets_are_read_at_the_call(
    with_lengths: bool, reverse: bool, backend: str
) -> None:
    """The user may use their memory again before the gradient is computed."""
    layer = Recurrent(openrnn.GRUCell(INPUT, HIDDEN), reverse=reverse, backend=backend)
    x, tensors = torch.randn(STEPS, BATCH, INPUT), list(layer.parameters())
    gradients = []
    for is_changed in (False, True):
        lengths, reset = LENGTHS.clone(), CUT.clone()
        output, _ = layer(x, lengths=lengths if with_lengths else None, reset=reset)
        if is_changed:
            lengths.zero_()
            reset.logical_not_()
        gradients.append(torch.autograd.grad(output.square().sum(), tensors))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)


class Bare(nn.Module):
    """A cell that says nothing of its states: those that are given tell."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(INPUT))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        c = torch.tanh(c * self.scale + x)
        return c * h.sigmoid(), c


@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("case", CASES)
@each_backend
def test_cells_that_say_nothing_of_their_states(
    backend: str, case: str, checkpoint: int | None
) -> None:
    cell = Bare()
    x = torch.randn(STEPS, BATCH, INPUT)
    state, again = (tuple(torch.randn(BATCH, INPUT) for _ in range(2)) for _ in range(2))
    given = (state, again if CASES[case].reset_to == STATE else None)
    ours = Called(Recurrent(cell, backend=backend, checkpoint=checkpoint), CASES[case])
    truth = Apart(Recurrent(cell, backend="eager"), CASES[case])
    results = (evaluate(module, x, given, torch.float64) for module in (ours, truth))
    torch.testing.assert_close(*results)


OF_TIME: dict[str, dict[str, Any]] = {
    "lengths": {"lengths": LENGTHS},
    "reset": {"reset": RESET, "reset_to": "default"},
    "lengths and reset": {"lengths": LENGTHS, "reset": CUT},
}
of_time = pytest.mark.parametrize("options", OF_TIME.values(), ids=OF_TIME)


# torch's own: its derivatives of derivatives are scripted.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@each_backend
@of_time
def test_transforms_of_functions(options: dict[str, Any], backend: str) -> None:
    layer = LSTM(INPUT, HIDDEN, backend=backend).double()
    points = torch.randn(2, STEPS, BATCH, INPUT, dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        return layer(x, **options)[0]

    def loss(x: Tensor) -> Tensor:
        return run(x).square().sum()

    point, direction = points.clone().requires_grad_()
    torch.testing.assert_close(torch.func.vmap(run)(points), torch.stack([*map(run, points)]))
    (gradient,) = torch.autograd.grad(loss(point), point)
    torch.testing.assert_close(torch.func.grad(loss)(points[0]), gradient)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(points)[0], gradient)
    _, pushed = torch.func.jvp(loss, (points[0],), (points[1],))
    torch.testing.assert_close(pushed, (gradient * direction).sum())


@of_time
def test_autocast(options: dict[str, Any]) -> None:
    layer, x = LSTM(INPUT, HIDDEN, 2, bidirectional=True), torch.randn(STEPS, BATCH, INPUT)
    state = random_states(layer)
    with torch.autocast("cpu", torch.bfloat16):
        actual = layer(x, state, return_states=True, **options)
    expected = layer(x, state, return_states=True, **options)
    torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.05, check_dtype=False)


@of_time
def test_the_meta_device(options: dict[str, Any]) -> None:
    layer = LSTM(INPUT, HIDDEN, 2, device="meta")
    x = torch.empty(STEPS, BATCH, INPUT, device="meta")
    output, (h, _), (states, _) = layer(x, return_states=True, **options)
    assert output.shape == (STEPS, BATCH, HIDDEN)
    assert h.shape == (2, BATCH, HIDDEN)
    assert states.shape == (STEPS, 2, BATCH, HIDDEN)


TORCHS: dict[str, dict[str, Any]] = {
    "RNN": {"num_layers": 2, "nonlinearity": "relu", "bidirectional": True},
    "LSTM": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "GRU": {"num_layers": 2, "bidirectional": True},
}


@each_backend
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "LSTM with proj_size"])
def test_lengths_are_as_torch_packs(kind: str, backend: str) -> None:
    name, _, proj_size = kind.partition(" with ")
    options = TORCHS[name] | ({"proj_size": 3} if proj_size else {})
    ours = getattr(openrnn, name)(INPUT, HIDDEN, backend=backend, **options).double()
    theirs = getattr(nn, name)(INPUT, HIDDEN, **options).double()
    theirs.load_state_dict(ours.state_dict())
    batch_first = options.get("batch_first", False)

    class Packing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = theirs

        def forward(self, x: Tensor, state: Any) -> Any:
            packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
            output, final = self.layer(packed, state)
            return pad_packed_sequence(output, batch_first, total_length=STEPS)[0], final

    class Padding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = ours

        def forward(self, x: Tensor, state: Any) -> Any:
            return self.layer(x, state, lengths=lengths)

    lengths = torch.tensor([3, 5, 1, 5, 2])  # shorter than the padding
    shape = (BATCH, STEPS, INPUT) if batch_first else (STEPS, BATCH, INPUT)
    x, state = torch.randn(shape), random_states(ours)
    actual, expected = (evaluate(m(), x, state, torch.float64) for m in (Padding, Packing))
    torch.testing.assert_close(actual, expected)


# --- the states of all steps ---


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
@pytest.mark.parametrize("directions", [1, 2])
def test_shapes_of_all_states(directions: int, batch_first: bool) -> None:
    """Time first, whatever the input."""
    options = {"num_layers": 3, "bidirectional": directions == 2, "batch_first": batch_first}
    x = torch.randn(*((BATCH, STEPS) if batch_first else (STEPS, BATCH)), INPUT)
    options |= {"backend": "eager"}
    lstm, gru = LSTM(INPUT, HIDDEN, proj_size=2, **options), GRU(INPUT, HIDDEN, **options)
    _, _, (h, c) = lstm(x, return_states=True)
    assert h.shape == (STEPS, 3 * directions, BATCH, 2)
    assert c.shape == (STEPS, 3 * directions, BATCH, HIDDEN)
    _, _, h = gru(x, return_states=True)
    assert h.shape == (STEPS, 3 * directions, BATCH, HIDDEN)
    _, _, h = gru(x[0], return_states=True)
    assert h.shape == (len(x[0]), 3 * directions, HIDDEN)


def test_all_states_of_nested_layers() -> None:
    layer = mixed("eager")
    _, _, states = layer(torch.randn(STEPS, BATCH, INPUT), return_states=True)
    gru, (forward, backward), (h, c), rnn, (inner,) = states
    assert gru.shape == (STEPS, BATCH, 6)
    assert [s.shape for s in (*forward, *backward)] == [(STEPS, BATCH, 4)] * 4
    assert [h.shape, c.shape] == [(STEPS, 2, BATCH, 6)] * 2
    assert rnn.shape == inner.shape == (STEPS, BATCH, 3)


def forward_stack() -> Stack:
    own = [nn.LSTMCell(INPUT, 4), openrnn.GRUCell(4, 4), cells.LSTMPCell(4, 6, 2)]
    above = LSTM(2, 4, num_layers=2, backend="eager")
    return Stack([*own, above], residual=True, backend="eager")


FORWARD: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(INPUT, HIDDEN, 2, proj_size=2, batch_first=True, backend="eager"),
    "GRU": lambda: GRU(INPUT, HIDDEN, 2, backend="eager"),
    "Recurrent": lambda: Recurrent(cells.SLSTMCell(INPUT, HIDDEN), batch_first=True),
    "Stack": forward_stack,
}


@pytest.mark.parametrize("name", FORWARD)
def test_any_step_may_be_gone_on_from(name: str) -> None:
    layer = FORWARD[name]().double()
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    turn = (lambda t: t.transpose(0, 1)) if layer.batch_first else (lambda t: t)
    output, final, states = layer(turn(x), return_states=True)
    for t in range(STEPS - 1):
        rest, last = layer(turn(x[t + 1 :]), on_tensors(lambda s, t=t: s[t], states))
        torch.testing.assert_close(turn(rest), turn(output)[t + 1 :])
        torch.testing.assert_close(last, final)
    torch.testing.assert_close(on_tensors(lambda s: s[-1], states), final, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["LSTM", "concat"])
def test_asking_for_all_states_changes_nothing_else(name: str) -> None:
    layer = LAYERS[name]("cpu").double()
    x = torch.randn(BATCH, BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x, return_states=True)[:2], layer(x), rtol=0, atol=0)


def test_changing_one_result_in_place_leaves_the_others() -> None:
    layer, x = LSTM(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT)
    with torch.no_grad():
        results = layer(x, return_states=True)
        output, (h_n, c_n), (h, c) = results
        expected = copy.deepcopy(results)
        output.zero_()
        torch.testing.assert_close(results[1:], expected[1:], rtol=0, atol=0)
        h.zero_()
        c.zero_()
        torch.testing.assert_close((h_n, c_n), expected[1], rtol=0, atol=0)


# --- an initial state that is learned ---

LEARNING: dict[str, Callable[[], Any]] = {
    "Recurrent": lambda: Recurrent(nn.LSTMCell(INPUT, 4), learn_initial_state=True),
    "Bidirectional": lambda: Bidirectional(
        openrnn.LSTMCell(INPUT, 4), openrnn.GRUCell(INPUT, 4), learn_initial_state=True
    ),
    "Stack": lambda: Stack(
        [openrnn.GRUCell(INPUT, 4), cells.LSTMPCell(4, 4, 2)], learn_initial_state=True
    ),
    "RNN": lambda: RNN(INPUT, 4, 2, bidirectional=True, learn_initial_state=True),
    "LSTM": lambda: LSTM(
        INPUT, 4, 2, proj_size=2, batch_first=True, bidirectional=True, learn_initial_state=True
    ),
    "GRU": lambda: GRU(INPUT, 4, learn_initial_state=True),
}
NAMES_AND_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "Recurrent": {"h_0": (4,), "c_0": (4,)},
    "Bidirectional": {
        "forward_layer.h_0": (4,),
        "forward_layer.c_0": (4,),
        "backward_layer.h_0": (4,),
    },
    "Stack": {"layers.0.h_0": (4,), "layers.1.h_0": (2,), "layers.1.c_0": (4,)},
    "RNN": {"h_0": (4, 4)},
    "LSTM": {"h_0": (4, 2), "c_0": (4, 4)},
    "GRU": {"h_0": (1, 4)},
}
learning = pytest.mark.parametrize("name", LEARNING)


def learner(name: str) -> tuple[Any, dict[str, Tensor], Tensor]:
    """A layer with initial states that are not 0, these, and an input."""
    layer = LEARNING[name]().double()
    learned = {n: p for n, p in layer.named_parameters() if n.endswith("_0")}
    with torch.no_grad():
        for parameter in learned.values():
            parameter.normal_()
    return layer, learned, torch.randn(STEPS, STEPS, INPUT, dtype=torch.float64)


@learning
def test_learned_states_are_parameters_of_zeros(name: str) -> None:
    layer = LEARNING[name]()
    learned = {n: p for n, p in layer.named_parameters() if n.endswith("_0")}
    assert {n: tuple(p.shape) for n, p in learned.items()} == NAMES_AND_SHAPES[name]
    assert all((p == 0).all() for p in learned.values())
    assert learned.keys() <= layer.state_dict().keys()


@learning
def test_learned_states_are_those_of_a_call_without_a_state(name: str) -> None:
    layer, learned, x = learner(name)
    _, begin = layer(x, lengths=[0] * STEPS)
    given = on_tensors(lambda s: s.detach().requires_grad_(), begin)
    expected = layer(x, given)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
    tensors: list[Tensor] = []
    on_tensors(tensors.append, given)
    ours = torch.autograd.grad(layer(x)[0].square().sum(), list(learned.values()))
    theirs = torch.autograd.grad(expected[0].square().sum(), tensors)
    for parameter, tensor, of_one, of_all in zip(
        learned.values(), tensors, ours, theirs, strict=True
    ):
        assert torch.equal(tensor, parameter.unsqueeze(-2).expand_as(tensor))
        assert (of_one != 0).any()
        torch.testing.assert_close(of_one, of_all.sum(-2))


@learning
def test_a_given_state_takes_the_place_of_what_is_learned(name: str) -> None:
    layer, learned, x = learner(name)
    twin = copy.deepcopy(layer)
    state = random_states(layer, STEPS)
    with torch.no_grad():
        for parameter_name in learned:
            twin.get_parameter(parameter_name).zero_()
    torch.testing.assert_close(layer(x, state), twin(x, state), rtol=0, atol=0)
    gradients = torch.autograd.grad(
        layer(x, state)[0].sum(), list(learned.values()), allow_unused=True
    )
    assert gradients == (None,) * len(learned)


@learning
def test_a_reset_to_default_goes_back_to_what_is_learned(name: str) -> None:
    layer, learned, x = learner(name)
    state, begin = random_states(layer, STEPS), layer(x, lengths=[0] * STEPS)[1]
    reset = torch.rand(STEPS, STEPS) < 0.3
    actual = layer(x, state, reset=reset, reset_to="default", return_states=True)
    expected = layer(x, state, reset=reset, reset_to=begin, return_states=True)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert not torch.equal(actual[0], layer(x, state, reset=reset)[0])
    tensors = list(learned.values())
    ours, theirs = (torch.autograd.grad(r[0].square().sum(), tensors) for r in (actual, expected))
    torch.testing.assert_close(ours, theirs)
    assert all((gradient != 0).any() for gradient in ours)
    # Without a state the two are one.
    both = (layer(x, reset=reset, reset_to=to)[0] for to in (None, "default"))
    torch.testing.assert_close(*both, rtol=0, atol=0)


@learning
def test_learned_states_without_a_batch_and_packed(name: str) -> None:
    layer, _, _ = learner(name)
    sequences = [torch.randn(n, INPUT, dtype=torch.float64) for n in (2, 6, 3)]
    packed, final = layer(pack_sequence(sequences, enforce_sorted=False))
    padded, _ = pad_packed_sequence(packed)
    for b, sequence in enumerate(sequences):
        alone, alone_final = layer(sequence)
        torch.testing.assert_close(padded[: len(sequence), b], alone)
        torch.testing.assert_close(row(final, b), alone_final)


@pytest.mark.parametrize("form", ["default", STATE, "zeros"])
def test_default_is_zeros_where_nothing_is_learned(form: str) -> None:
    layer, x = LSTM(INPUT, HIDDEN, 2), torch.randn(STEPS, BATCH, INPUT)
    state = random_states(layer)
    zeros = on_tensors(torch.zeros_like, state)
    reset_to = {"default": "default", STATE: state, "zeros": zeros}[form]
    actual = layer(x, state, reset=RESET, reset_to=reset_to)
    expected = layer(x, state, reset=RESET, reset_to=None if form == STATE else zeros)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["Stack", "LSTM"])
def test_a_state_may_be_default(name: str) -> None:
    layer, _, x = learner(name)
    torch.testing.assert_close(layer(x, "default"), layer(x), rtol=0, atol=0)


def test_states_may_be_missing_or_default_for_some_layers() -> None:
    layer, _, x = learner("Stack")
    own = random_states(layer, STEPS)
    begin = layer(x, lengths=[0] * STEPS)[1]
    reset = torch.rand(STEPS, STEPS) < 0.3
    expected = layer(x, (begin[0], own[1]), reset=reset, reset_to=(own[0], begin[1]))
    actual = layer(x, (None, own[1]), reset=reset, reset_to=[own[0], "default"])
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


# --- regularisers of the drop-in layers ---


def cell_of(layer: Any, cell: nn.Module) -> nn.Module:
    """The cell with the parameters of the layer's first."""
    renamed = {}
    for name, value in layer.state_dict().items():
        own = name.removesuffix("_l0")
        if own.startswith("norm_"):
            own = "_".join(own.split("_")[:2]) + "." + own.split("_")[2]
        renamed[own] = value
    if parametrize.is_parametrized(cell):
        renamed["parametrizations.weight_hh.original"] = renamed.pop("weight_hh")
    cell.double().load_state_dict(renamed)
    return cell.train(layer.training)


def loop(cell: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    outputs = []
    for x_t in x:
        state = cell(x_t, state)
        outputs.append(state if isinstance(state, Tensor) else state[0])
    return torch.stack(outputs), state


# Options of a layer, and the cell that does the same.
LIKE: dict[str, tuple[Any, dict[str, Any], Callable[[], nn.Module]]] = {
    "recurrent_dropout": (
        LSTM,
        {"recurrent_dropout": 0.3},
        lambda: cells.RecurrentDropoutLSTMCell(INPUT, HIDDEN, dropout=0.3),
    ),
    "zoneout of two": (
        LSTM,
        {"zoneout": (0.2, 0.4)},
        lambda: cells.ZoneoutLSTMCell(INPUT, HIDDEN, zoneout_h=0.2, zoneout_c=0.4),
    ),
    "zoneout of one": (
        LSTM,
        {"zoneout": 0.3},
        lambda: cells.ZoneoutLSTMCell(INPUT, HIDDEN, zoneout_h=0.3, zoneout_c=0.3),
    ),
    "zoneout of c": (
        LSTM,
        {"zoneout": [0.0, 0.4]},
        lambda: cells.ZoneoutLSTMCell(INPUT, HIDDEN, zoneout_h=0.0, zoneout_c=0.4),
    ),
    "zoneout of a GRU": (
        GRU,
        {"zoneout": 0.3},
        lambda: cells.ZoneoutGRUCell(INPUT, HIDDEN, zoneout=0.3),
    ),
    "weight_drop": (
        LSTM,
        {"weight_drop": 0.3},
        lambda: cells.WeightDropLSTMCell(INPUT, HIDDEN, dropout=0.3),
    ),
    "layer_norm of an LSTM": (
        LSTM,
        {"layer_norm": True},
        lambda: cells.LayerNormLSTMCell(INPUT, HIDDEN),
    ),
    "layer_norm of a GRU": (
        GRU,
        {"layer_norm": True},
        lambda: cells.LayerNormGRUCell(INPUT, HIDDEN),
    ),
    "layer_norm of an RNN": (
        RNN,
        {"layer_norm": True, "nonlinearity": "relu"},
        lambda: cells.LayerNormRNNCell(INPUT, HIDDEN, nonlinearity="relu"),
    ),
}


@each_backend
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LIKE)
def test_options_are_as_a_loop_of_the_cell(name: str, training: bool, backend: str) -> None:
    kind, options, make = LIKE[name]
    layer = kind(INPUT, HIDDEN, backend=backend, **options).double().train(training)
    with torch.no_grad():  # norms that do something
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    cell = cell_of(layer, make())
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    state = random_states(layer)
    torch.manual_seed(3)
    output, final = layer(x, state)
    torch.manual_seed(3)
    with parametrize.cached():
        expected, last = loop(cell, x, on_tensors(lambda s: s[0], state))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(on_tensors(lambda s: s[0], final), last)
    if training and "layer_norm" not in name:
        torch.manual_seed(4)
        assert not torch.equal(layer(x, state)[0], output)


@each_backend
@pytest.mark.parametrize("kind", [RNN, GRU])
def test_recurrent_dropout_by_hand(kind: Any, backend: str) -> None:
    """No cell of its own: of h on its way to W_hh in an RNN, of the candidate in a GRU."""
    layer = kind(INPUT, HIDDEN, recurrent_dropout=0.4, backend=backend).double()
    w_ih, w_hh, b_ih, b_hh = layer.parameters()
    x, h = torch.randn(STEPS, BATCH, INPUT).double(), random_states(layer)[0]
    torch.manual_seed(3)
    output, _ = layer(x, h.unsqueeze(0))
    torch.manual_seed(3)
    for x_t, actual in zip(x, output, strict=True):
        if kind is RNN:
            h = torch.tanh(F.linear(x_t, w_ih, b_ih) + F.linear(F.dropout(h, 0.4), w_hh, b_hh))
        else:
            r_x, z_x, n_x = F.linear(x_t, w_ih, b_ih).chunk(3, 1)
            r_h, z_h, n_h = F.linear(h, w_hh, b_hh).chunk(3, 1)
            z = torch.sigmoid(z_x + z_h)
            n = F.dropout(torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h), 0.4)
            h = (1 - z) * n + z * h
        torch.testing.assert_close(actual, h)


@each_backend
def test_zoneout_of_an_rnn_by_hand(backend: str) -> None:
    layer = RNN(INPUT, HIDDEN, zoneout=0.4, backend=backend).double()
    w_ih, w_hh, b_ih, b_hh = layer.parameters()
    x, h = torch.randn(STEPS, BATCH, INPUT).double(), random_states(layer)[0]
    torch.manual_seed(3)
    output, _ = layer(x, h.unsqueeze(0))
    torch.manual_seed(3)
    for x_t, actual in zip(x, output, strict=True):
        new = torch.tanh(F.linear(x_t, w_ih, b_ih) + F.linear(h, w_hh, b_hh))
        h = torch.where(torch.rand_like(new) < 0.4, h, new)
        torch.testing.assert_close(actual, h)


@each_backend
@drop_ins
def test_weight_drop_draws_once_for_a_call(kind: Any, backend: str) -> None:
    """One mask for each layer and direction, for all steps, rows and pieces."""
    layer = kind(INPUT, HIDDEN, 2, bidirectional=True, weight_drop=0.4, backend=backend).double()
    plain = kind(INPUT, HIDDEN, 2, bidirectional=True, backend=backend).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    torch.manual_seed(3)
    actual = layer(x, lengths=LENGTHS, reset=CUT)
    torch.manual_seed(3)
    for name, parameter in layer.named_parameters():
        if name.startswith("weight_hh"):
            dropped = F.dropout(parameter, 0.4)
            assert 0 < (dropped == 0).double().mean() < 1
            plain.load_state_dict({name: dropped.detach()}, strict=False)
    torch.testing.assert_close(actual, plain(x, lengths=LENGTHS, reset=CUT), rtol=0, atol=0)
    gradient = torch.autograd.grad(actual[0].square().sum(), layer.weight_hh_l1)[0]
    of_plain = torch.autograd.grad(
        plain(x, lengths=LENGTHS, reset=CUT)[0].square().sum(), plain.weight_hh_l1
    )[0]
    scale = torch.where(plain.weight_hh_l1 == 0, 0, 1 / 0.6)
    torch.testing.assert_close(gradient, of_plain * scale)


ALL: dict[str, Any] = {
    "num_layers": 2,
    "bidirectional": True,
    "dropout": 0.2,
    "recurrent_dropout": 0.3,
    "zoneout": 0.2,
    "weight_drop": 0.25,
    "layer_norm": True,
    "learn_initial_state": True,
    "checkpoint": 4,
}
COMBINED: dict[str, dict[str, Any]] = {
    "all": ALL,
    "no checkpoint": {**ALL, "checkpoint": None},
    "no norm, no biases": {**ALL, "layer_norm": False, "bias": False},
    "norm without biases": {"layer_norm": True, "bias": False, "weight_drop": 0.5},
    "one step at a time": {"zoneout": 0.3, "recurrent_dropout": 0.3, "checkpoint": 1},
    "batch first": {**ALL, "batch_first": True},
}


def of_options(layer: Any) -> Results:
    """All results and gradients in training, with lengths, resets, and all states."""
    case = Case(LENGTHS, CUT, "default")
    torch.manual_seed(5)
    x = torch.randn(STEPS, BATCH, INPUT)
    x[behind(LENGTHS)] = torch.nan
    return evaluate(Called(layer, case), x, (None, None), torch.float64)


@pytest.mark.parametrize("name", COMBINED)
@drop_ins
def test_options_together(kind: Any, name: str) -> None:
    eager, cpu = (kind(INPUT, HIDDEN, backend=b, **COMBINED[name]) for b in ("eager", "cpu"))
    eager.load_state_dict(cpu.state_dict())
    results = of_options(cpu)
    torch.testing.assert_close(results, of_options(eager))
    gradients = {key: g for key, g in results.items() if key.startswith("gradient of layer.")}
    assert len(gradients) == len(list(cpu.parameters()))
    for key, gradient in gradients.items():
        assert gradient.isfinite().all(), key
        assert (gradient != 0).any(), key
    assert not torch.equal(results["output"], of_options(cpu.eval())["output"])


def test_an_lstm_with_projection_and_all_else() -> None:
    options = {**ALL, "layer_norm": False, "proj_size": 3, "zoneout": (0.2, 0.4)}
    eager, cpu = (LSTM(INPUT, HIDDEN, backend=b, **options) for b in ("eager", "cpu"))
    eager.load_state_dict(cpu.state_dict())
    torch.testing.assert_close(of_options(cpu), of_options(eager))


@drop_ins
def test_options_off_are_torchs_layers(kind: Any) -> None:
    off = {"recurrent_dropout": 0.0, "zoneout": 0.0, "weight_drop": 0.0, "layer_norm": False}
    on = {"recurrent_dropout": 0.5, "zoneout": 0.5, "weight_drop": 0.5, "checkpoint": 2}
    sizes = (INPUT, HIDDEN, 2)
    theirs = getattr(nn, kind.__name__)(*sizes)
    for options in (off | {"learn_initial_state": False, "checkpoint": None}, on):
        layer = kind(*sizes, **options)
        assert list(layer.state_dict()) == list(theirs.state_dict())
        layer.load_state_dict(theirs.state_dict())
        torch.manual_seed(0)
        fresh = kind(*sizes, **options)
        torch.manual_seed(0)
        like = getattr(nn, kind.__name__)(*sizes)
        for key, value in like.state_dict().items():
            assert torch.equal(fresh.state_dict()[key], value)
    x = torch.randn(STEPS, BATCH, INPUT)
    torch.testing.assert_close(kind(*sizes).eval()(x)[0].shape, theirs(x)[0].shape)


@drop_ins
def test_dropping_options_do_nothing_in_evaluation(kind: Any) -> None:
    layer = kind(INPUT, HIDDEN, 2, dropout=0.5, recurrent_dropout=0.5, weight_drop=0.5).eval()
    plain = kind(INPUT, HIDDEN, 2)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(STEPS, BATCH, INPUT)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)


@each_backend
@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_drop", "dropout"])
@drop_ins
def test_options_may_be_set_later(kind: Any, option: str, backend: str) -> None:
    layer = kind(INPUT, HIDDEN, 2, backend=backend)
    other = kind(INPUT, HIDDEN, 2, backend=backend, **{option: 0.4})
    other.load_state_dict(layer.state_dict())
    x, results = torch.randn(STEPS, BATCH, INPUT), []
    plain = layer(x)
    setattr(layer, option, 0.4)
    for each in (layer, other):
        torch.manual_seed(3)
        results.append(each(x))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert not torch.equal(results[0][0], plain[0])
    setattr(layer, option, 0.0)
    torch.testing.assert_close(layer(x), plain, rtol=0, atol=0)


@drop_ins
def test_names_and_starts_of_the_added_parameters(kind: Any) -> None:
    layer = kind(INPUT, HIDDEN, 2, bidirectional=True, layer_norm=True, learn_initial_state=True)
    endings = ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    norms = {"RNN": ["ih", "hh"], "LSTM": ["ih", "hh", "c"], "GRU": ["ih", "hh", "in", "hn"]}
    expected = {f"weight_{part}{ending}" for part in ("ih", "hh") for ending in endings}
    expected |= {
        f"norm_{norm}_{part}{ending}"
        for norm in norms[kind.__name__]
        for part in ("weight", "bias")
        for ending in endings
    }
    expected |= {"h_0", "c_0"} if kind is LSTM else {"h_0"}
    assert set(layer.state_dict()) == expected
    for _ in range(2):
        for name, parameter in layer.named_parameters():
            if name.startswith("norm_"):
                assert (parameter == float("weight" in name)).all(), name
            elif name.endswith("_0"):
                assert (parameter == 0).all()
            else:
                assert 0 < parameter.abs().max() <= HIDDEN**-0.5
            with torch.no_grad():
                parameter.fill_(7.0)
        layer.reset_parameters()


@drop_ins
def test_copies_of_a_layer_with_options(kind: Any) -> None:
    layer = kind(INPUT, HIDDEN, **ALL)
    expected = of_options(layer)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(of_options(twin), expected, rtol=0, atol=0)
        assert repr(twin) == repr(layer)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
    torch.testing.assert_close(of_options(layer), expected, rtol=0, atol=0)
    fresh = kind(INPUT, HIDDEN, **ALL)
    fresh.load_state_dict(layer.state_dict())
    torch.testing.assert_close(of_options(fresh), expected, rtol=0, atol=0)


def test_repr_tells_the_options_that_are_on() -> None:
    assert repr(LSTM(5, 6, zoneout=(0.1, 0.0), weight_drop=0.5, checkpoint=10)) == (
        "LSTM(5, 6, zoneout=(0.1, 0.0), weight_drop=0.5, checkpoint=10)"
    )
    layer = GRU(5, 6, 2, recurrent_dropout=0.2, layer_norm=True, learn_initial_state=True)
    assert repr(layer) == (
        "GRU(5, 6, num_layers=2, recurrent_dropout=0.2, layer_norm=True, learn_initial_state=True)"
    )
    assert repr(Recurrent(nn.GRUCell(5, 6), checkpoint=3, learn_initial_state=True)) == (
        "Recurrent(\n  checkpoint=3, learn_initial_state=True\n  (cell): GRUCell(5, 6)\n)"
    )
    stack = Stack([nn.GRUCell(5, 5)], residual=True, dropout=0.5, checkpoint=3)
    assert repr(stack).startswith("Stack(\n  dropout=0.5, residual=True\n")


# --- residual stacks ---


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_residual_by_hand(training: bool) -> None:
    """What is added is the input before dropout, to layers that keep the number of features."""
    a, b, c = openrnn.GRUCell(5, 4), openrnn.LSTMCell(4, 4), nn.RNNCell(4, 4)
    d = Bidirectional(openrnn.GRUCell(4, 2), openrnn.GRUCell(4, 2))
    stack = Stack([a, b, c, d, openrnn.GRUCell(4, 3)], residual=True, dropout=0.4)
    stack.double().train(training)
    x = torch.randn(STEPS, BATCH, 5, dtype=torch.float64)
    state, again = random_states(stack), random_states(stack)
    options: dict[str, Any] = {"reset": CUT, "return_states": True}
    if not training:  # where numbers are dropped, they are drawn for the steps there are
        options["lengths"] = LENGTHS
    torch.manual_seed(3)
    output, *rest = stack(x, state, reset_to=again, **options)
    torch.manual_seed(3)
    expected, runs = x, []
    for index, layer in enumerate(stack.layers):
        below = expected if index == 0 else F.dropout(expected, 0.4, training)
        above, *of_layer = layer(below, state[index], reset_to=again[index], **options)
        expected = above if index in (0, 4) else above + expected
        runs.append(of_layer)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(rest, list(zip(*runs, strict=True)))


def test_residual_adds_what_was_there_before_dropout() -> None:
    """With all dropped, each layer runs on zeros, and the input goes through."""
    cells_ = [openrnn.RNNCell(5, 5, bias=False) for _ in range(3)]
    stack = Stack(cells_, residual=True, dropout=1.0).double()
    x = torch.randn(STEPS, BATCH, 5, dtype=torch.float64)
    first, _ = Recurrent(cells_[0])(x)
    torch.testing.assert_close(stack(x)[0], x + first)
    assert not torch.equal(stack.eval()(x)[0], x + first)


def test_residual_in_a_stack_inside() -> None:
    inner = Stack([openrnn.GRUCell(5, 5), openrnn.GRUCell(5, 5)], residual=True)
    outer = Stack([inner, openrnn.GRUCell(5, 5)])
    both = Stack([inner, outer.layers[1]], residual=True)
    x = torch.randn(STEPS, BATCH, 5)
    below, _ = inner(x)
    torch.testing.assert_close(outer(x)[0], outer.layers[1](below)[0])
    torch.testing.assert_close(both(x)[0], both.layers[1](below + x)[0] + below + x)


def test_residual_of_sizes_that_all_differ_changes_nothing() -> None:
    stack = Stack([openrnn.GRUCell(5, 4), openrnn.GRUCell(4, 3)])
    other = Stack(stack.layers, residual=True)
    x = torch.randn(STEPS, BATCH, 5)
    torch.testing.assert_close(other(x), stack(x), rtol=0, atol=0)


# --- steps that are run again for the gradient ---

CHECKPOINTED: dict[str, Callable[..., nn.Module]] = {
    "LSTMCell": BOX["LSTMCell"],
    "torch.nn.GRUCell": nn.GRUCell,
    "QRNNCell fo": BOX["QRNNCell fo"],
    **{name: BOX[name] for name in RANDOM},
}


@each_backend
@pytest.mark.parametrize("case", ["all steps", *CASES])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", CHECKPOINTED)
def test_checkpoints_change_nothing(name: str, reverse: bool, case: str, backend: str) -> None:
    """Random cells are in training, and draw the same numbers."""
    cell = CHECKPOINTED[name](INPUT, HIDDEN)
    x, layer = torch.randn(STEPS, BATCH, INPUT), Recurrent(cell)
    given = (random_states(layer), random_states(layer))
    if case == "all steps" or CASES[case].reset_to != STATE:
        given = (given[0], None)
    results = []
    for checkpoint in (None, 1, 3, STEPS, STEPS + 5):
        layer = Recurrent(cell, reverse=reverse, backend=backend, checkpoint=checkpoint)
        called = Called(layer, CASES.get(case, Case()))
        results.append(evaluate(called, x, given, torch.float64))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


@each_backend
@pytest.mark.parametrize("name", ["LSTMCell", *RANDOM])
def test_random_numbers_go_on_as_without_checkpoints(name: str, backend: str) -> None:
    """The second run draws the numbers of the first, and leaves the generator as it was."""
    after = []
    for checkpoint in (None, 2):
        torch.manual_seed(0)
        layer = Recurrent(BOX[name](INPUT, HIDDEN), backend=backend, checkpoint=checkpoint)
        x = torch.randn(STEPS, BATCH, INPUT, requires_grad=True)
        layer(x, random_states(layer))[0].sum().backward()
        after.append(torch.rand(3))
    assert torch.equal(*after)


@each_backend
@pytest.mark.parametrize("checkpoint", [1, 2, 3, 8])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_double_backward_of_checkpoints(reverse: bool, checkpoint: int, backend: str) -> None:
    cell = openrnn.LSTMCell(2, 3).double()
    layer = Recurrent(cell, backend=backend, reverse=reverse, checkpoint=checkpoint)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, rest[4:], strict=True))
        reset = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
        options = {"lengths": [3, 2, 0], "reset": reset, "reset_to": rest[2:4]}
        output, (h, c) = torch.func.functional_call(layer, parameters, (x, rest[:2]), options)
        return output, h, c

    states = [torch.randn(3, 3) for _ in range(4)]
    inputs = [torch.randn(3, 3, 2), *states, *layer.parameters()]
    inputs = [t.detach().double().requires_grad_() for t in inputs]
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@each_backend
def test_checkpoints_of_parametrized_and_frozen_cells(backend: str) -> None:
    cell = openrnn.LSTMCell(INPUT, HIDDEN).double()
    nn.utils.parametrizations.weight_norm(cell, "weight_hh")
    cell.weight_ih.requires_grad_(False)
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    wanted = [p for p in cell.parameters() if p.requires_grad]
    gradients = []
    for checkpoint in (None, 2):
        output, _ = Recurrent(cell, backend=backend, checkpoint=checkpoint)(x)
        gradients.append(torch.autograd.grad(output.square().sum(), wanted))
    torch.testing.assert_close(gradients[1], gradients[0])


@each_backend
def test_checkpoints_without_a_gradient_and_in_transforms(backend: str) -> None:
    plain = GRU(INPUT, HIDDEN, backend=backend).double()
    layer = GRU(INPUT, HIDDEN, backend=backend, checkpoint=2).double()
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    gradients = [
        torch.func.vmap(torch.func.grad(lambda x, each=each: each(x)[0].square().sum()))(
            torch.stack((x, -x))
        )
        for each in (layer, plain)
    ]
    torch.testing.assert_close(*gradients)


@each_backend
def test_checkpoints_in_a_second_backward_pass(backend: str) -> None:
    layer = LSTM(INPUT, HIDDEN, 2, checkpoint=2, weight_drop=0.5, backend=backend).double()
    loss = layer(torch.randn(STEPS, BATCH, INPUT).double())[0].square().sum()
    tensors = list(layer.parameters())
    first = torch.autograd.grad(loss, tensors, retain_graph=True)
    torch.rand(1)  # the generator may be anywhere by then
    torch.testing.assert_close(torch.autograd.grad(loss, tensors), first, rtol=0, atol=0)


def test_checkpoints_of_a_stack_are_those_of_its_cells() -> None:
    stack = Stack([openrnn.GRUCell(5, 4), nn.LSTMCell(4, 4)], checkpoint=2)
    pair = Bidirectional(openrnn.GRUCell(5, 4), openrnn.GRUCell(5, 4), checkpoint=3)
    assert [layer.checkpoint for layer in stack.layers] == [2, 2]
    assert [pair.forward_layer.checkpoint, pair.backward_layer.checkpoint] == [3, 3]
