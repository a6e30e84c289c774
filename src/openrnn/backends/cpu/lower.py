"""From the graph of a step to a plan: products and loops over the features of a row.

In a plan the batch is gone: rows do not mix, so a value is the array of its features for one row,
of shape `dims`. Slices, transposes and broadcasts are only other ways to walk through an array.
What is computed element by element is put into loops, as much into one as can be; only what another
loop reads is stored.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import pairwise, product

import torch

from openrnn.backends.cpu.plan import (
    Access,
    Buffer,
    Dims,
    Loop,
    Nest,
    Operand,
    Place,
    Plan,
    Product,
    Step,
    Weight,
    expanded,
    squeezed,
    strides_of,
)
from openrnn.backends.cpu.rewrite import added_product
from openrnn.backends.cpu.runtime import HALF
from openrnn.errors import BackendError
from openrnn.step.graph import Graph
from openrnn.step.shape import batch_dim, row_dims
from openrnn.step.split import is_sum_of_vectors


def lower(
    graph: Graph,
    dtype: torch.dtype,
    states: Mapping[str, int],
    arrays: Collection[str],
    chunked: Collection[str],
    name: str,
    summed: Collection[str] = (),
) -> Plan:
    """The plan of a graph that computes in this dtype.

    Args:
        graph: of one step.
        dtype: of all its numbers, or float32 where they are stored as half of that; conditions
            are 0 and 1.
        states: the features of each state that is carried, by name.
        arrays: the outputs that go into an array of all rows.
        chunked: the inputs that come from, and the outputs that go into, a buffer of the kernel's
            own, with the rows of some steps.
        name: of the plan: names that are known everywhere in a kernel start with it.
        summed: the outputs that are added up over all steps, each row to that of its sequence.

    Raises:
        BackendError: it computes in other dtypes too, or multiplies in a way that has no kernel.
    """
    plan = Plan(graph, name)
    for place, (state, size) in enumerate(states.items()):
        now = Buffer(f"state{place}", "state", size)
        plan.states[state] = now, Buffer(f"next{place}", "next", size)
    _Lowering(plan, dtype, arrays, chunked, summed)
    return plan


class _Lowering:
    """Fills a plan that has its graph and its states."""

    def __init__(
        self,
        plan: Plan,
        dtype: torch.dtype,
        arrays: Collection[str],
        chunked: Collection[str],
        summed: Collection[str],
    ) -> None:
        self.plan, self.dtype = plan, dtype
        self._arrays, self._chunked, self._summed = arrays, chunked, summed
        self.graph = graph = plan.graph
        self._dims = [row_dims(node.shape) for node in graph.nodes]
        self._home: dict[int, Access] = {}  # where a value is stored
        self._more: dict[int, list[Access]] = defaultdict(list)  # where else a loop writes it
        # Level, source (None for zeros), target, and the dims of the loop.
        self._copies: list[tuple[int, int | None, Access, Dims]] = []
        self._check_dtypes()
        self._vectors = _sums_of_vectors(graph)
        self._inputs()
        self._walks = [self._walk(index) for index in range(len(graph.nodes))]
        self._started = self._find_started()
        self._kinds = [self._kind(index) for index in range(len(graph.nodes))]
        self._levels = [0] * len(graph.nodes)
        self._schedule()
        self._delay()
        self._place()
        self._emit()

    def _check_dtypes(self) -> None:
        half = HALF if self.dtype == torch.float32 else ()
        weights = {n.inputs[1] for n in self.graph.nodes if n.op == "int8_linear"}
        for index, node in enumerate(self.graph.nodes):
            if node.dtype not in (self.dtype, torch.bool, *half) and index not in weights:
                where = f" at {node.line}" if node.line else ""
                raise BackendError(
                    f"a kernel computes in one dtype, {self.dtype} here, but {node.op}{where} is "
                    f"in {node.dtype}"
                )

    def _inputs(self) -> None:
        for index, node in enumerate(self.graph.nodes):
            dims = self._dims[index]
            size = math.prod(dims)
            if node.op == "constant":
                buffer = Buffer(f"{self.plan.name}_table{index}", "table", size)
            elif index in self._vectors:
                self.plan.vectors.append(self._vectors[index])
                name = f"{self.plan.name}_sum{len(self.plan.vectors) - 1}"
                buffer = Buffer(name, "once", size)
            elif node.op != "input":
                continue
            elif node["kind"] == "state":
                buffer = self.plan.states[node["name"]][0]
            elif batch_dim(node.shape) is not None:
                kind = "chunk" if node.label in self._chunked else "rows"
                buffer = self.plan.rows[node.label] = Buffer(f"rows{index}", kind, size)
            else:
                buffer = self.plan.wholes[node.label] = Buffer(f"whole{index}", "whole", size)
            self._home[index] = Access(buffer, 0, strides_of(dims))

    # --- views ---

    def _walk(self, index: int) -> tuple[int, int, Dims]:
        """The node that a value is a view of (itself, if none), with offset and strides."""
        node, dims = self.graph.nodes[index], self._dims[index]
        itself = index, 0, strides_of(dims)
        if node.op not in ("slice", "permute", "flip", "expand", "reshape", "detach"):
            return itself
        (source,) = node.inputs
        base, offset, strides = self._walk(source)
        inner = self._dims[source]
        if node.op == "slice":
            dim = node["dim"]
            offset += node["start"] * strides[dim]
            strides = _replaced(strides, dim, strides[dim] * node["step"])
        elif node.op == "permute":
            strides = tuple(strides[d] for d in node["dims"])
        elif node.op == "flip":
            dim = node["dim"]
            offset += (inner[dim] - 1) * strides[dim]
            strides = _replaced(strides, dim, -strides[dim])
        elif node.op == "expand":
            strides = expanded(inner, strides, dims)
        elif node.op == "reshape":
            reshaped = _reshaped(inner, strides, dims)
            if reshaped is None:
                return itself  # made by copying
            strides = reshaped
        return base, offset, strides

    def _kind(self, index: int) -> str:
        node = self.graph.nodes[index]
        if node.op in ("input", "constant") or index in self._vectors:
            return "given"
        if self._walks[index][0] != index:
            return "view"
        if index in self._started:
            return "product"
        if index in (product for product, _ in self._started.values()):
            return "folded"  # into the product that is added to something
        if node.op in ("sum", "amax", "amin"):
            dims = self._dims[node.inputs[0]]
            real = [d for d in range(len(dims)) if dims[d] != 1]
            over = [d for d in real if d in node["dims"]]
            if not over:
                return "elementwise"
            return "reduction" if over == real[len(real) - len(over) :] else "nest"
        if node.op == "int8_linear":
            return "product"
        if node.op == "matmul":
            return "nest" if self._weighted(index) is None else "product"
        kinds = {"reshape": "copy", "cat": "pieces", "unslice": "pieces"}
        kinds |= {"cumsum": "nest", "first_max": "nest"}
        return kinds.get(node.op, "elementwise")

    def _find_started(self) -> dict[int, tuple[int, int]]:
        """Sums of a product and what is there already, which the product takes as its start."""
        found: dict[int, tuple[int, int]] = {}
        readers = self.graph.readers()
        for index in range(len(self.graph.nodes)):
            pair = added_product(self.graph, readers, index)
            if pair is None or self._weighted(pair[0]) != self.graph.nodes[pair[0]].inputs[:2]:
                continue
            _, other = pair
            base = self._walks[other][0]
            known = self._is_given(base) or base in found
            dims = self._dims[index]
            strides = expanded(self._dims[other], self._walks[other][2], dims)
            if known and (strides[-1] == 1 or dims[-1] == 1):
                found[index] = pair
        return found

    def _weighted(self, index: int) -> tuple[int, int] | None:
        """Which factor has the rows, and which is a weight, if one of them is."""
        left, right, *_ = self.graph.nodes[index].inputs
        if self._lacks_rows(left) == self._lacks_rows(right):
            return None
        if self._is_whole(right):
            return left, right
        if self._is_whole(left) and self._dims[right][-1] == 1:
            return right, left
        return None

    def _lacks_rows(self, index: int) -> bool:
        """Whether it is one array for all rows, repeated for each of them perhaps."""
        return self._walks[index][0] in self._vectors or self._is_whole(index)

    def _is_given(self, index: int) -> bool:
        return self.graph.nodes[index].op == "input" or index in self._vectors

    def _is_whole(self, index: int) -> bool:
        node = self.graph.nodes[self._walks[index][0]]
        return node.op in ("input", "constant") and batch_dim(node.shape) is None

    # --- levels: a level is computed after those below it ---

    def _loops(self, index: int) -> bool:
        return self._kinds[index] in ("elementwise", "reduction")

    def _loop_dims(self, index: int) -> Dims:
        """What a node's loop goes over: its own dims, or those of what it reduces."""
        if self._kinds[index] == "reduction":
            return self._dims[self.graph.nodes[index].inputs[0]]
        return self._dims[index]

    def _gap(self, reader: int, i: int) -> int:
        """0 if the reader can be in the same level as what it reads, else 1."""
        base, offset, strides = self._walks[i]
        if self._kinds[reader] == "pieces" and self.graph.nodes[reader].op == "cat":
            return 0 if base == i and self._kinds[i] == "elementwise" else 1
        if not self._loops(reader) or self._kinds[base] != "elementwise":
            return 1
        dims = self._loop_dims(reader)
        along = squeezed(expanded(self._dims[i], strides, dims), dims)
        same = squeezed(self._dims[base], self._dims[base]) == squeezed(dims, dims)
        return 0 if same and offset == 0 and along == squeezed(strides_of(dims), dims) else 1

    def _reads(self, index: int) -> list[int]:
        """The inputs that are computed here; of given ones there is nothing to wait for."""
        if self._kinds[index] in ("given", "view", "folded"):
            return []
        inputs = self.graph.nodes[index].inputs
        if index in self._started:
            product, start = self._started[index]
            inputs = (self.graph.nodes[product].inputs[0], start)
        return [i for i in inputs if self._kinds[self._walks[i][0]] != "given"]

    def _schedule(self) -> None:
        for index in range(len(self.graph.nodes)):
            waits = (
                self._levels[self._walks[i][0]] + self._gap(index, i) for i in self._reads(index)
            )
            self._levels[index] = max(waits, default=0)

    def _delay(self) -> None:
        """Puts what is computed element by element as late as it may be, next to its readers."""
        latest: dict[int, int] = {}
        for index in range(len(self.graph.nodes) - 1, -1, -1):
            if self._kinds[index] == "elementwise" and index in latest:
                self._levels[index] = latest[index]
            for i in self._reads(index):
                base, level = self._walks[i][0], self._levels[index] - self._gap(index, i)
                latest[base] = min(latest.get(base, level), level)

    # --- where things are stored ---

    def _place(self) -> None:
        for label, index in self.graph.outputs:
            kind, _, name = label.partition(".")
            size = math.prod(self._dims[index])
            if kind == "state" and name in self.plan.states:
                self._put(index, self.plan.states[name][1])
            if label in self._arrays:
                self.plan.outputs[label] = Buffer(f"out{len(self.plan.outputs)}", "output", size)
                self._put(index, self.plan.outputs[label])
            if label in self._chunked:
                self.plan.left[label] = Buffer(f"left{len(self.plan.left)}", "chunk", size)
                self._put(index, self.plan.left[label])
            if label in self._summed:
                self.plan.summed[label] = Buffer(f"sum{len(self.plan.summed)}", "sum", size)
                self._put(index, self.plan.summed[label])
        stored = {
            self._walks[i][0]
            for index in range(len(self.graph.nodes))
            for i in self._reads(index)
            if not self._is_local(index, i)
        }
        stored |= {self._walks[index][0] for _, index, _, _ in self._copies if index is not None}
        for index, kind in enumerate(self._kinds):
            alone = kind in ("copy", "pieces", "product", "nest", "reduction")
            if index not in self._home and kind != "view" and (alone or index in stored):
                buffer = Buffer(f"v{index}", "scratch", math.prod(self._dims[index]))
                self.plan.scratch.append(buffer)
                self._home[index] = Access(buffer, 0, strides_of(self._dims[index]))
        for index, kind in enumerate(self._kinds):
            if kind == "pieces":
                self._place_pieces(index)

    def _is_local(self, reader: int, i: int) -> bool:
        """Whether the reader has the value at hand: of the same loop, or a piece to be placed."""
        base = self._walks[i][0]
        if self._gap(reader, i) == 1:
            return False
        return self._kinds[reader] == "pieces" or self._levels[base] == self._levels[reader]

    def _put(self, index: int, buffer: Buffer) -> None:
        """A value is wanted in a buffer."""
        dims = self._dims[index]
        target = Access(buffer, 0, strides_of(dims))
        if self._kinds[index] in ("given", "view"):
            base = self._walks[index][0]
            level = 0 if self._kinds[base] == "given" else self._levels[base] + 1
            self._copies.append((level, index, target, dims))
        elif index not in self._home and buffer.kind != "sum":
            self._home[index] = target
        elif self._kinds[index] == "elementwise":
            self._more[index].append(target)
        else:
            self._copies.append((self._levels[index] + 1, index, target, dims))

    def _place_pieces(self, index: int) -> None:
        """Pieces are written where they belong, by their own loops where they have one."""
        node, home, level = self.graph.nodes[index], self._home[index], self._levels[index]
        dim, strides = node["dim"], home.strides
        if node.op == "unslice":
            (piece,) = node.inputs
            step = _replaced(strides, dim, strides[dim] * node["step"])
            target = Access(home.buffer, home.offset + node["start"] * strides[dim], step)
            self._copies.append((level, None, home, self._dims[index]))
            self._copies.append((level, piece, target, self._dims[piece]))
            return
        start = 0
        for i in node.inputs:
            target = Access(home.buffer, home.offset + start * strides[dim], strides)
            if self._gap(index, i) == 0:
                self._more[i].append(target)
            else:
                self._copies.append((level, i, target, self._dims[i]))
            start += self._dims[i][dim]

    # --- the plan ---

    def _access(self, i: int, dims: Dims) -> Access:
        """How a loop over `dims` goes through a stored value."""
        base, offset, strides = self._walks[i]
        home, node = self._home[base], self.graph.nodes[base]
        if node.op == "constant":
            self.plan.tables[home.buffer.name] = tuple(map(float, node["value"]))
        return Access(home.buffer, home.offset + offset, expanded(self._dims[i], strides, dims))

    def _operand(self, index: int, i: int, dims: Dims) -> Operand:
        is_bool = self.graph.nodes[i].dtype == torch.bool
        base = self._walks[i][0]
        source = self.graph.nodes[base]
        if source.op == "constant" and source.shape == ():
            return Operand(float(source["value"][0]), is_bool)
        if self._is_local(index, i) and self._kinds[base] != "given":
            return Operand(base, is_bool)
        access = self._access(i, dims)
        strides = squeezed(access.strides, dims)
        return Operand(Access(access.buffer, access.offset, strides), is_bool)

    def _emit(self) -> None:
        loops: dict[tuple[int, Dims, int | None], Loop] = {}
        others: dict[int, list[Loop | Product | Nest]] = defaultdict(list)
        for level, source, target, dims in self._copies:
            others[level].append(self._copy(source, target, dims))
        for index, node in enumerate(self.graph.nodes):
            kind, level = self._kinds[index], self._levels[index]
            if self._loops(index):
                dims = self._loop_dims(index)
                step = Step(index, node, [self._operand(index, i, dims) for i in node.inputs])
                homes = [self._home[index]] if index in self._home else []
                step.stores = [
                    Access(a.buffer, a.offset, squeezed(a.strides, self._dims[index]))
                    for a in homes + self._more[index]
                ]
                kept = None
                if kind == "reduction":
                    step.reduces = True
                    kept = len(squeezed(self._dims[index], self._dims[index]))
                self._into_loop(loops, level, squeezed(dims, dims), kept, step)
            elif kind == "copy":
                (source,) = node.inputs
                dims = self._dims[source]
                home = self._home[index]
                target = Access(home.buffer, home.offset, strides_of(dims))
                others[level].append(self._copy(source, target, dims))
            elif kind == "product":
                others[level].append(self._product(index))
            elif kind == "nest":
                others[level].append(self._nest(index))
        for level in range(max([*others, *(key[0] for key in loops)], default=-1) + 1):
            self.plan.items += others[level]
            self.plan.items += [loop for key, loop in loops.items() if key[0] == level]

    def _into_loop(
        self,
        loops: dict[tuple[int, Dims, int | None], Loop],
        level: int,
        dims: Dims,
        kept: int | None,
        step: Step,
    ) -> None:
        loop = loops.setdefault((level, dims, None), Loop(dims))
        if kept is not None and loop.kept not in (None, kept):
            raise BackendError("reductions of one value over different dims have no kernel yet")
        loop.kept = loop.kept if kept is None else kept
        loop.steps.append(step)

    def _copy(self, source: int | None, target: Access, dims: Dims) -> Loop:
        """A loop of its own; without a source it writes zeros."""
        operand = Operand(0.0, False)
        if source is not None:
            base = self._walks[source][0]
            node = self.graph.nodes[base]
            if node.op == "constant" and node.shape == ():
                operand = Operand(float(node["value"][0]), False)
            else:
                access = self._access(source, dims)
                walk = squeezed(access.strides, dims)
                operand = Operand(Access(access.buffer, access.offset, walk), False)
        store = Access(target.buffer, target.offset, squeezed(target.strides, dims))
        return Loop(squeezed(dims, dims), None, [Step(-1, None, [operand], [store])])

    def _product(self, index: int) -> Product:
        product_at, start_at = self._started.get(index, (index, None))
        node = self.graph.nodes[product_at]
        found = self._weighted(product_at)
        assert found is not None
        rows, whole = found
        turned = node.inputs[0] != rows  # W x instead of x W
        is_int8 = node.op == "int8_linear"  # x Wᵀ
        left, weight = self._access(rows, self._dims[rows]), self._access(whole, self._dims[whole])
        home = self._home[index]
        depth_dim, row_dim = (-2, -1) if turned else (-1, -2)
        depth, columns = self._dims[rows][depth_dim], self._dims[index][depth_dim]
        w_depth, w_column = (-1, -2) if turned or is_int8 else (-2, -1)
        matrix = (columns, depth) if is_int8 else (depth, columns)
        start = None if start_at is None else self._access(start_at, self._dims[index])
        groups = self._dims[index][:-2]
        places, offsets = [], dict[int, int]()

        def offset(access: Access, at: tuple[int, ...], row: int) -> int:
            return access.offset + _dot(at, access.strides) + row * access.strides[row_dim]

        for at in product(*map(range, groups)):
            of_weight = weight.offset + _dot(at, weight.strides)
            number = offsets.setdefault(of_weight, len(offsets))
            for row in range(self._dims[rows][row_dim]):
                begin = 0 if start is None else offset(start, at, row)
                places.append(Place(offset(left, at, row), number, offset(home, at, row), begin))
        packed = Weight(
            weight.buffer,
            tuple(offsets),
            (weight.strides[w_depth], weight.strides[w_column]),
            depth,
            columns,
            weight.buffer.kind == "whole"
            and self._dims[self._walks[whole][0]] == matrix
            and (weight.offset, weight.strides) == (0, strides_of(matrix)),
            self._home[node.inputs[2]].buffer if is_int8 else None,
        )
        if packed not in self.plan.weights:
            self.plan.weights.append(packed)
        return Product(
            index,
            depth,
            columns,
            Access(left.buffer, 0, (left.strides[depth_dim],)),
            self.plan.weights.index(packed),
            Access(home.buffer, 0, (1,)),
            start,
            tuple(places),
        )

    def _nest(self, index: int) -> Nest:
        node = self.graph.nodes[index]
        dims = self._dims[index] if node.op == "matmul" else self._dims[node.inputs[0]]
        operands = tuple(self._access(i, self._dims[i]) for i in node.inputs)
        return Nest(index, node, dims, operands, self._home[index])


def _sums_of_vectors(graph: Graph) -> dict[int, tuple[str, ...]]:
    """Sums of inputs of one dimension without rows, with what they are sums of."""
    found: dict[int, tuple[str, ...]] = {}
    for index, node in enumerate(graph.nodes):
        if is_sum_of_vectors(graph, index):
            labels: list[str] = []
            for i in node.inputs:
                labels += found[i] if i in found else [graph.nodes[i].label]
            found[index] = tuple(labels)
    return found


def _replaced(strides: Dims, dim: int, stride: int) -> Dims:
    return (*strides[:dim], stride, *strides[dim + 1 :])


def _dot(at: tuple[int, ...], strides: Dims) -> int:
    return sum(i * stride for i, stride in zip(at, strides, strict=False))


def _reshaped(dims: Dims, strides: Dims, target: Dims) -> Dims | None:
    """The strides of the same numbers in another shape, if they can be walked so.

    Both shapes are taken apart into groups of dimensions that hold the same numbers; within a group
    the old dimensions must lie in memory like one.
    """
    if math.prod(dims) == 0:
        return strides_of(target)
    old = [(size, stride) for size, stride in zip(dims, strides, strict=True) if size != 1]
    result: list[int] = []
    place = 0
    wanted = list(target)
    while wanted:
        size = wanted.pop(0)
        if size == 1:
            result.append(0)
            continue
        group, have = [size], 1
        run: list[tuple[int, int]] = []
        while have != math.prod(group):
            if have < math.prod(group):
                run.append(old[place])
                have *= old[place][0]
                place += 1
            else:
                group.append(wanted.pop(0))
        for (_, outer), (inner_size, inner) in pairwise(run):
            if outer != inner * inner_size:
                return None
        inner = run[-1][1]
        result += [inner * math.prod(group[i + 1 :]) for i in range(len(group))]
    return tuple(result)
