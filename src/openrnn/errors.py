"""Every error of OpenRNN. Each is also the built-in exception that torch raises in its place."""


class OpenRNNError(Exception):
    """Base of all errors that OpenRNN raises on purpose."""


class ShapeError(OpenRNNError, ValueError, RuntimeError):
    """A tensor has the wrong rank, size or dtype.

    torch raises `ValueError` for some of these and `RuntimeError` for others, so this is both.
    """


class StateError(ShapeError, TypeError, IndexError):
    """A state is no tensor where one is needed, or a tuple of too few or too many tensors."""


class ArgumentError(OpenRNNError, ValueError):
    """An argument has a value that is out of its range."""


class ArgumentTypeError(OpenRNNError, TypeError):
    """An argument is of the wrong type."""


class CellError(OpenRNNError, RuntimeError):
    """A cell does not follow the cell protocol, or cannot be compiled."""


class ConversionError(OpenRNNError, ValueError):
    """What another library has made has no counterpart here."""


class BackendError(OpenRNNError, ValueError, RuntimeError):
    """The backend that was asked for by name does not exist, or cannot run here."""


class MissingExtraError(OpenRNNError, ImportError):
    """A package of an optional extra is not installed."""


class DataError(OpenRNNError, ValueError):
    """A data file, or a model directory, cannot be used as it is."""


class ProcessError(OpenRNNError, RuntimeError):
    """Another process that shares the work has ended, or does not answer."""
