"""What `draw` draws: pictures that hold every shape, in which no words meet, always the same."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn import cells, draw, equations
from openrnn.explain.blocks import blocks
from openrnn.explain.draw import Drawing
from openrnn.explain.mathematics.layout import left_side
from openrnn.explain.mathematics.printing import dims, pieces
from openrnn.explain.parts import read
from tests.cells.box import BOX

pytest.importorskip("matplotlib")
VIEWS = ("sequence", "cell", "parameters", "equations")


class Peephole(nn.Module):
    """A cell as the documentation writes one: gates without names of their own, one Linear."""

    hidden_size = 20
    input_size = 30

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(30 + 20, 4 * 20)
        self.peep = nn.Parameter(torch.zeros(3, 20))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        i, f, g, o = self.gates(torch.cat((x, h), -1)).chunk(4, -1)
        i = torch.sigmoid(i + self.peep[0] * c)
        f = torch.sigmoid(f + self.peep[1] * c)
        c = f * c + i * torch.tanh(g)
        return torch.sigmoid(o + self.peep[2] * c) * torch.tanh(c), c


class Counting(nn.Module):
    """States of different sizes, one of which depends on nothing but itself."""

    state_sizes = {"h": 20, "age": 1}  # noqa: RUF012  as a user writes it
    input_size = 30

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(30 + 20 + 1, 20)

    def forward(self, x: Tensor, state: Any) -> Any:
        h, age = state
        return torch.tanh(self.linear(torch.cat((x, h, age), -1))), age + 1


class Dyed(nn.Module):
    """x in several places, weights as x @ W, a parameter that is computed, a constant state."""

    state_sizes = {"hidden": 20, "fixed": 20}  # noqa: RUF012
    input_size = 30

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(30, 40))
        self.log_tau = nn.Parameter(torch.zeros(20))
        self.unused = nn.Parameter(torch.zeros(2, 3))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, fixed = state
        candidate, forget = (x @ self.w).chunk(2, -1)
        keep = torch.sigmoid(forget + x[:, :20])
        new = keep * h + (1 - keep) * torch.nn.functional.silu(candidate) * fixed
        return new / (1 + torch.exp(self.log_tau)) - h, fixed


class Sliced(nn.Module):
    """Biases of slices of a product, which are not its bias."""

    hidden_size = 20
    input_size = 30

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(30, 40, bias=False)
        self.u = nn.Linear(20, 40, bias=False)
        self.b_z, self.b_n = nn.Parameter(torch.zeros(20)), nn.Parameter(torch.zeros(20))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        (z_x, n_x), (z_h, n_h) = self.w(x).chunk(2, -1), self.u(h).chunk(2, -1)
        z, n = torch.sigmoid(z_x + z_h + self.b_z), torch.tanh(n_x + n_h + self.b_n)
        return z * h + (1 - z) * n


class Deep(nn.Module):
    """A step that is wider than a page, and a state that comes from weights alone."""

    state_sizes = {"h": 20, "start": 20}  # noqa: RUF012
    input_size = 30

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(50, 50) for _ in range(6))
        self.last = nn.Linear(50, 20)
        self.start = nn.Parameter(torch.zeros(20))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, start = state
        y = torch.cat((x, h), -1)
        for layer in self.layers:
            y = y + torch.relu(layer(torch.nn.functional.layer_norm(y, (50,))))
        return torch.tanh(self.last(y)) + 0.5 * h * start, self.start.expand_as(h)


def _stack() -> openrnn.Stack:
    both = openrnn.Bidirectional(
        cells.RecurrentDropoutLSTMCell(10, 8, dropout=0.1), openrnn.GRUCell(10, 8), merge="sum"
    )
    layers = [openrnn.LSTMCell(30, 20), cells.SLSTMCell(20, 10), both, openrnn.LSTM(8, 4, 2)]
    return openrnn.Stack(layers, residual=True, dropout=0.1)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: openrnn.LSTM(30, 20),
    "LSTM, 4 layers": lambda: openrnn.LSTM(30, 20, num_layers=4),
    "LSTM, 4 layers, both directions": lambda: openrnn.LSTM(30, 20, 4, bidirectional=True),
    "LSTM, 12 layers": lambda: openrnn.LSTM(30, 20, num_layers=12),
    "GRU, both directions": lambda: openrnn.GRU(30, 20, bidirectional=True, batch_first=True),
    "RNN, 4 layers": lambda: openrnn.RNN(30, 20, num_layers=4),
    "LSTM of 1": lambda: openrnn.LSTM(30, 1, bidirectional=True),
    "GRU of 1": lambda: openrnn.GRU(1, 1),
    "LSTM of 1000": lambda: openrnn.LSTM(30, 1000, num_layers=2),
    "GRU of 1000": lambda: openrnn.GRU(1000, 1000, bidirectional=True),
    "layer norm": lambda: openrnn.LSTM(30, 20, layer_norm=True),
    "projection": lambda: openrnn.LSTM(30, 20, num_layers=2, proj_size=5),
    "stack": _stack,
    "a user's LSTM": Peephole,
    "a user's states": Counting,
    "a user's weights": Dyed,
    "a user's biases": Sliced,
    "a user's depth": Deep,
    "torch LSTM": lambda: nn.LSTM(30, 20, num_layers=2, dropout=0.5, bidirectional=True),
    "torch RNN": lambda: nn.RNN(30, 20, nonlinearity="relu"),
    "torch LSTMCell": lambda: nn.LSTMCell(30, 20),
    "torch GRUCell": lambda: nn.GRUCell(30, 20),
    "reverse": lambda: openrnn.Recurrent(cells.RHNCell(30, 20, depth=2), reverse=True),
    **{name: lambda name=name: BOX[name](30, 20) for name in BOX},  # type: ignore[misc]
}


@cache
def drawn(name: str, view: str) -> Drawing:
    return draw(MODULES[name](), view, compare="RNN" if view == "parameters" else None)


def words_of(drawing: Drawing) -> list[str]:
    """The text in an SVG, piece by piece."""
    root = ET.fromstring(drawing.svg)
    return [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]


def boxes_of(drawing: Drawing) -> list[tuple[str, Any]]:
    """The pieces of text, with the boxes that they take, in pixels."""
    from matplotlib.text import Text

    from openrnn.explain.views.canvas import style

    with style():
        renderer = drawing.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        found = [text for text in drawing.figure.findobj(Text) if text.get_text()]
        return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", MODULES)
def test_no_words_meet(name: str, view: str) -> None:
    """No two pieces of text overlap, none is off the page, and no line goes through one."""
    drawing = drawn(name, view)
    found = boxes_of(drawing)
    assert len(found) > 5
    for (one, a), (other, b) in itertools.combinations(found, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide <= 1 or high <= 1, f"{one!r} meets {other!r}"
    page = drawing.figure.bbox
    for text, box in found:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, f"{text!r} is off the page"
    crossed = [text for line in lines_of(drawing) for text, box in found if crosses(line, box)]
    assert not crossed, f"a line goes through {crossed}"


def lines_of(drawing: Drawing) -> list[Any]:
    """Points along each line."""
    from matplotlib.patches import PathPatch

    found = []
    for patch in drawing.figure.findobj(PathPatch):
        path = patch.get_path().transformed(patch.get_transform())  # type: ignore[attr-defined]
        (curve,) = path.to_polygons(closed_only=False)
        steps = np.linspace(0, 1, 40)[:, None]
        found.append(
            np.concatenate([a + (b - a) * steps for a, b in itertools.pairwise(np.array(curve))])
        )
    return found


def crosses(line: Any, box: Any) -> bool:
    x, y = line.T
    inside = (x > box.x0 + 1) & (x < box.x1 - 1) & (y > box.y0 + 1) & (y < box.y1 - 1)
    return bool(inside.any())


@pytest.mark.parametrize("name", MODULES)
def test_every_shape_of_a_parameter(name: str) -> None:
    """In the view of the parameters that of each, and in that of a cell that of each matrix."""
    module = MODULES[name]()
    lanes = read(module).lanes
    words = words_of(drawn(name, "parameters"))
    for lane in lanes:
        for parameter in lane.parameters.values():
            assert f"({', '.join(map(str, parameter.shape))})" in words
    words = words_of(drawn(name, "cell"))
    assert f"(B, {lanes[0].input_size})" in words
    for size in lanes[0].states.values():
        assert words.count(f"(B, {size})") >= 2, "a state before and after"
    if not name.startswith(("RHN", "MGU", "OriginalGRU", "reverse")):  # they use parts of one
        for parameter, node in ((n["name"], n) for _, n in lanes[0].graph.inputs("parameter")):
            if len(node.shape) > 1 and "weight" in parameter:
                assert f"× {parameter}" in words
                assert f"({', '.join(map(str, node.shape))})" in words


def test_the_shapes_of_a_sequence() -> None:
    words = words_of(draw(openrnn.LSTM(30, 20, 2, bidirectional=True)))
    for text in (
        *("X (T, B, 30)", "out (T, B, 40)", "x (B, 30)", "h (B, 40)"),
        *("h_0, c_0 (4, B, 20): before the first step", "h_n, c_n (4, B, 20): after the last step"),
        *(f"{s}_{end}[{number}] (B, 20)" for s in "hc" for end in "0n" for number in range(4)),
        *("t = 0", "t = 1", "t = T-1", "X[0]", "out[T-1]", "the last layer's h", "at every step"),
        *("layer 0 forward", "layer 1 backward", "concat"),
    ):
        assert text in words, text
    assert words.count("LSTM") == 4 * 3, "two layers, two directions, three steps"


def test_numbers_in_place_of_letters() -> None:
    words = words_of(draw(openrnn.GRU(30, 20), x_shape=(12, 3, 30)))
    assert {"X (12, 3, 30)", "out (12, 3, 20)", "h_0[0] (3, 20)", "X[11]"} <= set(words)
    words = words_of(draw(openrnn.GRU(30, 20, batch_first=True), x_shape=(3, 12, 30)))
    assert {"X (3, 12, 30)", "out (3, 12, 20)", "X[:, 11]"} <= set(words)
    words = words_of(draw(openrnn.GRU(30, 20), x_shape=(2, 3, 30)))
    assert "X[1]" in words
    assert "…" not in words, "so few steps are all drawn"
    assert "(7, 20)" in words_of(draw(openrnn.GRUCell(30, 20), "cell", x_shape=(7, 30)))


def test_the_cell_is_drawn_from_its_graph() -> None:
    words = words_of(draw(openrnn.LSTMCell(30, 20), "cell"))
    assert [word for word in words if word in ("i", "f", "g", "o")] == ["i", "f", "o", "g"]
    assert [words.count(sign) for sign in ("σ", "tanh", "⊙")] == [3, 2, 3]
    words = words_of(draw(cells.LayerNormLSTMCell(30, 20), "cell"))
    assert [words.count(word) for word in ("layer norm", "norm_c (20)", "Σ")] == [3, 1, 0]
    words = words_of(draw(cells.SLSTMCell(30, 20), "cell"))
    assert {"log σ a_f", "where"} <= set(words)
    words = words_of(draw(Peephole(), "cell"))
    assert {"i", "f", "g", "o", "⊙ peep[2]", "concat", "× gates.weight"} <= set(words)
    words = words_of(draw(cells.RHNCell(30, 20, depth=6), "cell"))
    assert {"h′", "h′′", "h′′′", "h⁽⁵⁾", "× weight_hh[5]"} <= set(words)
    words = words_of(draw(Sliced(), "cell"))
    assert {"+ b_z", "+ b_n"} <= set(words), "no bias of the products"
    words = words_of(draw(Deep(), "cell"))
    assert words.count("hₜ₋₁") == 2, "where it is needed once more, after a break"
    assert words.count("y⁽⁵⁾") == 2, "at the break, on either side"


@pytest.mark.parametrize("name", MODULES)
def test_every_shape_of_an_equation(name: str) -> None:
    """Beneath each symbol that `equations` has, and the note of each parameter."""
    drawing = drawn(name, "equations")
    shown = Counter(words_of(drawing))
    found = equations(MODULES[name]())
    equal = [line.equation for line in found.lines]
    symbols = [piece for e in equal for piece in (*left_side(e), *pieces(e.right))]
    assert Counter(dims(shape) for _, shape in symbols if shape is not None) <= shown
    text = "".join("".join(words_of(drawing)).split())
    for note in (note for cell in found.cells for note in cell.notes):
        assert "".join(note.split()) in text


def test_the_equations_are_mathematics() -> None:
    """Letters with true subscripts, x, the states and the weights each in a colour."""
    from matplotlib.text import Text

    drawing = draw(openrnn.GRUCell(30, 20), "equations")
    found = [text for text in drawing.figure.findobj(Text) if text.get_text()]
    shown = [text.get_text() for text in found if text.get_fontsize() > 12]  # type: ignore[attr-defined]
    line = "".join(shown).replace(" ", "")
    assert "$r_{t}$=σ($W_{ir}$$x_{t}$+$b_{ir}$+$W_{hr}$$h_{t-1}$+$b_{hr}$)" in line
    assert "$h_{t}$=(1−$z_{t}$)⊙$n_{t}$+$z_{t}$⊙$h_{t-1}$" in line
    colors = {t.get_text(): t.get_color() for t in found if "$" in t.get_text()}  # type: ignore[attr-defined]
    by_color = [colors[name] for name in ("$x_{t}$", "$h_{t-1}$", "$h_{t}$", "$W_{ir}$", "$r_{t}$")]
    assert len(set(by_color)) == 5
    words = words_of(draw(openrnn.LSTM(30, 20, 4, bidirectional=True), "equations"))
    assert "layer 0 forward, layer 0 backward: LSTMCell(30, 20)" in words
    assert "layer 1 forward … layer 3 backward (6 in all): LSTMCell(40, 20)" in words


def test_long_equations_break() -> None:
    class Long(nn.Module):
        hidden_size = input_size = 1000

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            terms = [torch.sin(h) * x, torch.cos(x) * h, torch.exp(-h * h), x * x, h * x * x]
            return torch.tanh(sum(terms, h) * sum(terms, x) + h)

    drawing = draw(Long(), "equations")
    boxes = [box for text, box in boxes_of(drawing) if text == "1000"]
    assert len(equations(Long()).lines) == 1
    assert len({round(box.y0) for box in boxes}) == 2
    assert max(box.x1 for box in boxes) < drawing.figure.bbox.x1 - 15


def test_torchs_own_cells_have_the_gates_of_ours() -> None:
    words = words_of(draw(nn.GRUCell(30, 20), "cell"))
    assert {"r", "z", "n"} <= set(words)


def test_cells_of_one_form_are_drawn_once() -> None:
    words = words_of(draw(openrnn.LSTM(30, 20, num_layers=3), "cell"))
    assert words.count("σ") == 3
    assert "layer 0: LSTMCell(30, 20); of the same form layer 1, layer 2" in words
    words = words_of(draw(openrnn.LSTM(30, 20, 3), "parameters"))
    assert "layer 1, layer 2: LSTMCell(20, 20), 3,360 parameters each" in words


@pytest.mark.parametrize("name", MODULES)
def test_the_count_of_parameters(name: str) -> None:
    module = MODULES[name]()
    count = sum(p.numel() for p in module.parameters())
    words = words_of(drawn(name, "parameters"))
    assert any(word.endswith(f": {count:,} parameters") for word in words)


def test_beside_another_at_the_same_scale() -> None:
    words = words_of(draw(openrnn.LSTM(30, 20), "parameters", compare="RNN"))
    assert {"LSTM(30, 20): 4,160 parameters", "RNN(30, 20): 1,040 parameters"} <= set(words)
    assert {"i  (20, 30)", "h  (20, 30)"} <= set(words)
    words = words_of(draw(openrnn.LSTM(30, 20), "parameters", compare=openrnn.GRUCell(30, 10)))
    assert "(30, 10)" in words


def test_the_same_again(tmp_path: Path) -> None:
    """Whatever matplotlib was told, so that a picture can be kept under version control."""
    import matplotlib as mpl

    for view in VIEWS:
        one = draw(openrnn.GRU(30, 20, 2), view, tmp_path / "one.png")
        with mpl.rc_context({"font.size": 20, "svg.fonttype": "path", "figure.dpi": 50}):
            torch.rand(1)
            again = draw(openrnn.GRU(30, 20, 2), view, tmp_path / "again.png")
        assert one.svg == again.svg
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_drawing_draws_no_random_numbers() -> None:
    cell = openrnn.cells.WeightDropLSTMCell(5, 6, dropout=0.5)
    before = torch.get_rng_state()
    draw(cell, "cell")
    assert torch.equal(torch.get_rng_state(), before)


def test_dark() -> None:
    light, dark = (draw(openrnn.RNN(30, 20), dark=dark) for dark in (False, True))
    assert words_of(light) == words_of(dark)
    assert "fill: #ffffff" in light.svg
    assert "fill: #ffffff" not in dark.svg


def test_files(tmp_path: Path) -> None:
    drawing = draw(openrnn.RNN(30, 20), path=tmp_path / "rnn.svg")
    assert (tmp_path / "rnn.svg").read_text(encoding="utf-8") == drawing.svg
    drawing.save(str(tmp_path / "rnn.PNG"))
    assert (tmp_path / "rnn.PNG").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rnn.PNG", "rnn.svg"]
    assert drawing._repr_svg_() == drawing.svg
    assert repr(drawing) == "<Drawing of RNN(30, 20), sequence>"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", MODULES)
def test_as_wide_as_a_readme(name: str, view: str) -> None:
    width = drawn(name, view).figure.get_size_inches()[0] * 96
    assert math.isclose(width, 850)


class Sorting(nn.Module):
    state_sizes = {"h": 4}  # noqa: RUF012  as a user writes it
    input_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return ((x + h) @ self.weight).sort(-1).values


def test_a_cell_that_cannot_be_read_has_the_other_views() -> None:
    for view in ("cell", "equations"):
        with pytest.raises(openrnn.CellError, match=rf"view='{view}' needs .* aten.sort"):
            draw(Sorting(), view)
    assert "(4, 4)" in words_of(draw(Sorting(), "parameters"))
    assert "Sorting" in words_of(draw(openrnn.Recurrent(Sorting())))


def test_features_that_the_cell_does_not_say() -> None:
    class Leaky(nn.Module):
        hidden_size = 20

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(30 + 20, 20)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return 0.9 * h + 0.1 * torch.tanh(self.linear(torch.cat((x, h), -1)))

    layer = openrnn.Recurrent(Leaky())
    with pytest.raises(openrnn.ArgumentError, match=r"draw\(layer, input_size=30\)"):
        draw(layer)
    assert "× 0.1" in words_of(draw(layer, "cell", input_size=30))
    assert "x (4, 30)" in words_of(draw(layer, x_shape=(3, 4, 30)))
    layer(torch.randn(3, 2, 30))
    assert "x (B, 30)" in words_of(draw(layer))


def test_what_is_wrong(tmp_path: Path) -> None:
    rnn: Any = openrnn.RNN(30, 20)
    wrong: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (openrnn.ArgumentError, "expected view to be one of 'sequence'", lambda: draw(rnn, "loop")),
        (openrnn.ArgumentError, "ends in .svg or .png", lambda: draw(rnn, path="rnn.pdf")),
        (openrnn.ArgumentError, "ends in .svg or .png", lambda: draw(rnn).save(tmp_path)),
        (
            openrnn.ArgumentError,
            "can be written to, got .*: No such file",
            lambda: draw(rnn, path=tmp_path / "none" / "rnn.svg"),
        ),
        (openrnn.ArgumentError, "parameters' alone", lambda: draw(rnn, compare="LSTM")),
        (
            openrnn.ArgumentError,
            "compare to be a layer",
            lambda: draw(rnn, "parameters", compare="ARIMA"),
        ),
        (openrnn.ArgumentTypeError, "got int", lambda: draw(7)),  # type: ignore[arg-type]
        (openrnn.ArgumentTypeError, "got Linear, without", lambda: draw(nn.Linear(3, 4))),
        (
            openrnn.ArgumentTypeError,
            "draw: compare: expected .* got Linear",
            lambda: draw(rnn, "parameters", compare=nn.Linear(3, 4)),
        ),
        (openrnn.ArgumentError, "x_shape to be", lambda: draw(rnn, x_shape=(30,))),
        (openrnn.ArgumentError, "x_shape to be", lambda: draw(rnn, x_shape=(12, 0, 30))),
        (openrnn.ArgumentError, "30 features.*got 31", lambda: draw(rnn, x_shape=(12, 3, 31))),
        (openrnn.ArgumentError, "30 features.*got 31", lambda: draw(rnn, input_size=31)),
        (
            openrnn.ArgumentError,
            "to be input_size 30",
            lambda: draw(rnn, input_size=30, x_shape=(12, 3, 31)),
        ),
    ]
    for error, message, call in wrong:
        with pytest.raises(error, match=message):
            call()
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openrnn.extras.find_spec", lambda name: None)
    with pytest.raises(openrnn.MissingExtraError, match=r"draw needs matplotlib.*openrnn\[train\]"):
        draw(openrnn.RNN(30, 20))


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [2, 20])
@pytest.mark.parametrize("name", BOX)
def test_the_blocks_of_a_cell_are_its_gates(name: str, hidden: int) -> None:
    """Found in the graph alone; all blocks have the same size, and follow each other."""
    cell = BOX[name](5, hidden)
    (lane,) = read(cell).lanes
    found = blocks(lane.graph)
    assert set(found) == set(lane.parameters)
    for parameter in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        if parameter in found:
            times = getattr(cell, "depth", 1) if parameter.endswith("hh") else 1
            assert [b.name for b in found[parameter]] == [*cell.gates] * times
    for parameter, own in found.items():
        assert own[0].start == 0
        assert all(one.stop == other.start for one, other in itertools.pairwise(own))
        assert len({b.stop - b.start for b in own}) == 1
        numbers = lane.parameters[parameter].numel()
        assert numbers % own[-1].stop == 0


def test_the_blocks_of_a_users_cell() -> None:
    found = blocks(read(Peephole()).lanes[0].graph)
    assert [b.name for b in found["gates.weight"]] == ["i", "f", "g", "o"]
    assert [(b.name, b.start, b.stop) for b in found["peep"]] == [
        *(("i", 0, 20), ("f", 20, 40), ("o", 40, 60))
    ]
    found = blocks(read(Dyed()).lanes[0].graph)
    names = [(b.name, b.start, b.stop, b.columns) for b in found["w"]]
    assert names == [("candidate", 0, 20, True), ("keep", 20, 40, True)]


def test_blocks_of_torchs_cells_fall_back_on_the_gates() -> None:
    lane = read(nn.LSTMCell(5, 6)).lanes[0]
    assert [b.name for b in blocks(lane.graph)["weight_hh"]] == [""] * 4
    assert [b.name for b in blocks(lane.graph, lane.gates)["weight_hh"]] == ["i", "f", "g", "o"]


def test_of_a_long_expression_of_weights_its_parameters_are_told() -> None:
    class Decaying(nn.Module):
        input_size = hidden_size = 4

        def __init__(self) -> None:
            super().__init__()
            self.decay = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return x + h * torch.exp(-nn.functional.softplus(self.decay))

    svg = draw(Decaying(), "cell").svg
    assert "⊙ function(decay)" in svg
    assert "where" not in svg
