"""Where the values of a step lie: products that are added up in one, states in place, scratch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from openrnn.backends.cpu.plan import Access, Buffer, Dims, Loop, Nest, Plan, Product


@dataclass(frozen=True)
class Products:
    """Products that are added up: each is what the next one starts with."""

    terms: tuple[Product, ...]

    @property
    def start(self) -> Access | None:
        return self.terms[0].start

    @property
    def last(self) -> Product:
        return self.terms[-1]


Item = Union[Loop, Nest, Products]  # noqa: UP007  evaluated at run time on Python 3.10


@dataclass(frozen=True)
class Memory:
    """A plan with a place for each value.

    items: what is done, in order.
    in_place: the states that take the place of their predecessors at once; the others are copied
        at the end of the step.
    scalars: single numbers that loops alone write and read: variables of the function.
    offsets: of the buffers that lie in the scratch memory, which share it where they can.
    size: of the scratch memory.
    """

    items: tuple[Item, ...]
    in_place: frozenset[str]
    scalars: tuple[Buffer, ...]
    offsets: dict[Buffer, int]
    size: int


def place(plan: Plan) -> Memory:
    """Finds a place for each value of a plan."""
    items = tuple(_joined(plan))
    in_place = frozenset(
        name for name, (now, new) in plan.states.items() if _is_in_place(items, now, new)
    )
    scalars = _scalars(items)
    late = {new for name, (_, new) in plan.states.items() if name not in in_place}
    lives: dict[Buffer, tuple[int, int]] = {}
    for at, item in enumerate(items):
        for access in (*reads(item), *writes(item)):
            inside = access.buffer.kind == "scratch" and access.buffer not in scalars
            if inside or access.buffer in late:
                first, _ = lives.get(access.buffer, (at, at))
                lives[access.buffer] = first, len(items) if access.buffer in late else at
    offsets = _share(lives)
    size = max((offset + buffer.size for buffer, offset in offsets.items()), default=0)
    return Memory(items, in_place, scalars, offsets, size)


def reads(item: Item) -> Iterator[Access]:
    if isinstance(item, Loop):
        values = (operand.value for step in item.steps for operand in step.operands)
        yield from (value for value in values if isinstance(value, Access))
    elif isinstance(item, Products):
        yield from (term.left for term in item.terms)
        if item.start is not None:
            yield item.start
    else:
        yield from item.operands


def writes(item: Item) -> Iterator[Access]:
    if isinstance(item, Loop):
        yield from (access for step in item.steps for access in step.stores)
    else:
        yield item.last.result if isinstance(item, Products) else item.result


def _joined(plan: Plan) -> Iterator[Item]:
    """The items, with products that only another product starts with in that one's place."""
    made = {item.result.buffer: item for item in plan.items if isinstance(item, Product)}
    read = [access.buffer for item in plan.items for access in reads(_alone(item))]
    states = {buffer for pair in plan.states.values() for buffer in pair}
    kept = states | {*plan.outputs.values()}

    def before(item: Product) -> Product | None:
        """What the product starts with, if that is a product which nothing else reads."""
        other = made.get(item.start.buffer) if item.start is not None else None
        if other is None or other.result.buffer in kept or read.count(other.result.buffer) > 1:
            return None
        ends = [place.result for place in other.places]
        same = ends == [place.start for place in item.places] and other.columns == item.columns
        return other if same else None

    taken = {id(before(item)) for item in plan.items if isinstance(item, Product)}
    for item in plan.items:
        if not isinstance(item, Product):
            yield item
        elif id(item) not in taken:
            terms = [item]
            while (other := before(terms[0])) is not None:
                terms.insert(0, other)
            yield Products(tuple(terms))


def _alone(item: Loop | Product | Nest) -> Item:
    return Products((item,)) if isinstance(item, Product) else item


def _is_in_place(items: tuple[Item, ...], now: Buffer, new: Buffer) -> bool:
    """Whether a state may be written where its predecessor is: nothing reads that afterwards."""
    last = max((at for at, item in enumerate(items) if _is_among(now, reads(item))), default=-1)
    first = min(at for at, item in enumerate(items) if _is_among(new, writes(item)))
    if last != first:
        return last < first
    item = items[last]
    if not isinstance(item, Loop):
        return False
    walks: set[tuple[int, Dims]] = {
        (access.offset, access.strides)
        for access in (*reads(item), *writes(item))
        if access.buffer in (now, new)
    }
    return len(walks) == 1  # each number is read just where it is written


def _is_among(buffer: Buffer, accesses: Iterator[Access]) -> bool:
    return any(access.buffer == buffer for access in accesses)


def _scalars(items: tuple[Item, ...]) -> tuple[Buffer, ...]:
    written = [access.buffer for item in items for access in writes(item)]
    elsewhere = {
        access.buffer
        for item in items
        if not isinstance(item, Loop)
        for access in (*reads(item), *writes(item))
    }
    return tuple(
        buffer
        for buffer in dict.fromkeys(written)
        if (buffer.kind, buffer.size) == ("scratch", 1)
        and written.count(buffer) == 1
        and buffer not in elsewhere
    )


def _share(lives: dict[Buffer, tuple[int, int]]) -> dict[Buffer, int]:
    """Offsets such that no two buffers overlap that are needed at the same time.

    The buffers come in the order in which they are first needed.
    """
    offsets: dict[Buffer, int] = {}
    for buffer, (first, _) in lives.items():
        beside = sorted(
            (offsets[other], offsets[other] + other.size)
            for other in offsets
            if first <= lives[other][1]
        )
        offset = 0
        for begin, end in beside:
            if offset + buffer.size <= begin:
                break
            offset = max(offset, end)
        offsets[buffer] = offset
    return offsets
