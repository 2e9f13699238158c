"""What an engine runs: a network in memory, that of a run, or nothing but a graph in a file.

Here is the border to PyTorch. An engine takes arrays and gives arrays, and ONNX Runtime needs no
more of a network than its graphs. Where a graph was made before, neither PyTorch nor the weights
are read, until somebody asks for the network itself (`Network.model`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

from unisal.errors import GraphError, UserError
from unisal.files import key_of
from unisal.forks import computing
from unisal.inference.cache import FEATURES, FP32, find_facts, find_graph, keep_graph
from unisal.inference.graph_file import Graph, read_graph
from unisal.inference.processor import INT8_FLAGS, lacks

if TYPE_CHECKING:
    from unisal.inference.torch_network import TorchNetwork
    from unisal.model import UNISAL

_loading = RLock()
"""Held while a run's network is read, so that threads do not read it twice."""


class Network(Protocol):
    """A network in any form that predictions can be made with."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Its domains."""
        ...

    @property
    def image_domains(self) -> tuple[str, ...]:
        """Those of them that were trained on images only."""
        ...

    @property
    def temperatures(self) -> Mapping[str, float]:
        """What the logits of domains are divided by; 1 for those not named."""
        ...

    @property
    def model(self) -> UNISAL:
        """The network itself, in evaluation mode.

        Raises:
            UserError: it cannot be read, or is not known.
        """
        ...

    @property
    def needs_pytorch(self) -> bool:
        """Whether a graph may still have to be made, for which PyTorch and `onnx` are needed."""
        ...

    @property
    def is_float32(self) -> bool:
        """Whether its weights are of this type, the only one that graphs are made of."""
        ...

    def version(self) -> Any:
        """Return a value that changes when the weights are changed or replaced."""
        ...

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graph of a domain computes in, "fp32", "int8" or "bf16".

        Args:
            domain: as in `graph`.
            static: as in `graph`.

        Raises:
            UserError: there is no such graph where one was asked for.
        """
        ...

    def graph(self, domain: str, static: bool) -> Graph:
        """Return the network as a graph.

        Args:
            domain: one of the network's domains.
            static: whether the frames are unrelated images.

        Raises:
            GraphError: none can be made of it.
        """
        ...


class RunNetwork:
    """The network of a run. Its graphs are kept in the user's cache, see `unisal.inference.cache`.

    Args:
        key: see `unisal.inference.cache.network_key`.
        weights: the file of its weights.
        load: reads the network with its weights, onto the CPU. It is called when a graph is not in
            the cache or the network itself is asked for, and at once if the cache has no graph of
            the network, so that mistakes in the run are found at the start.

    Raises:
        UserError: what `load` raises.
    """

    is_float32 = True

    def __init__(self, key: str, weights: Path, load: Callable[[], UNISAL]) -> None:
        self.key = key
        self._weights = weights
        self._load = load
        self._loaded: TorchNetwork | None = None
        self._as_read: Any = None
        facts = find_facts(key)
        self.needs_pytorch = facts is None
        if facts is None:
            names = ("sources", "image_domains", "temperatures")
            facts = {name: getattr(self.model, name) for name in names}
        self.sources: tuple[str, ...] = tuple(facts["sources"])
        self.image_domains: tuple[str, ...] = tuple(facts["image_domains"])
        self._temperatures: dict[str, float] = dict(facts["temperatures"])

    @property
    def temperatures(self) -> dict[str, float]:
        """What the logits of domains are divided by."""
        return self._temperatures if self._loaded is None else self._loaded.temperatures

    @property
    def weights(self) -> Path | None:
        """The file of its weights; None if they were changed since they were read."""
        return self._weights if self._is_as_read() else None

    @property
    def model(self) -> UNISAL:
        """The network itself."""
        return self._in_pytorch().model

    def version(self) -> Any:
        """Return a value that changes when the weights are changed or replaced."""
        return None if self._is_as_read() else self._in_pytorch().version()

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graphs compute in."""
        return "fp32"

    def graph(self, domain: str, static: bool, features: bool = False) -> Graph:
        """Return a graph from the cache, or make it and keep it there; see `Network.graph`.

        Args:
            domain: as in `Network.graph`.
            static: as in `Network.graph`.
            features: whether the network's features are outputs, too.

        Raises:
            GraphError: as in `Network.graph`.
        """
        if not self._is_as_read():
            return self._in_pytorch().graph(domain, static, features)
        kind = FEATURES if features else FP32
        found = find_graph(self.key, domain, static, kind)
        if found is None:
            try:
                found = self._in_pytorch().graph(domain, static, features)
            except ImportError as error:  # of the package `onnx`
                raise GraphError(f"no ONNX graph can be made of this network: {error}") from None
            keep_graph(self.key, domain, static, found, kind)
            # As the next process finds it, whose session is then the same.
            found = find_graph(self.key, domain, static, kind) or found
        return found

    def _is_as_read(self) -> bool:
        """Return whether nobody has changed the weights since they were read."""
        return self._loaded is None or self._loaded.version() == self._as_read

    def _in_pytorch(self) -> TorchNetwork:
        with computing(), _loading:
            if self._loaded is None:
                try:
                    from unisal.inference.torch_network import TorchNetwork
                except ImportError as error:
                    raise UserError(
                        f"{self._weights}: PyTorch is needed to make a graph of a network, for "
                        f"features and for GPUs ({error}); install it, or make the graph where it "
                        "is installed, with Predictor.write_graph, and load the file"
                    ) from None
                loaded = TorchNetwork.outside_inference(self._load)
                self._as_read = loaded.version()
                self._loaded = loaded
            return self._loaded


class GraphNetwork:
    """A graph in a file, for one domain, and for either images or videos.

    Args:
        path: the file, see `unisal.predict.Predictor.write_graph`.
        graph: what it holds, or is going to hold; None to read it.

    Raises:
        UserError: it cannot be read, is no such file, or is in 8 bits, for which the processor has
            no instructions.
    """

    needs_pytorch = False
    is_float32 = True

    def __init__(self, path: Path, graph: Graph | None = None) -> None:
        self._path = path
        self._graph = read_graph(path) if graph is None else graph
        self.facts = self._graph.facts
        self._domain, self.static = self.facts["domain"], bool(self.facts["static"])
        self.sources: tuple[str, ...] = (self._domain,)
        self.image_domains = tuple(self.facts["image_domains"])
        self.temperatures: Mapping[str, float] = dict(self.facts["temperatures"])
        if self.in_8_bits and lacks(INT8_FLAGS):
            raise UserError(
                f"{path} is in 8 bits, for which the processor has no instructions "
                f"({', '.join(sorted(INT8_FLAGS))}); use a file in float32"
            )

    @property
    def in_8_bits(self) -> bool:
        """Whether the graph computes in 8 bits."""
        return self.precision(self._domain, self.static) == "int8"

    @property
    def key(self) -> str:
        """A key of the graph."""
        return key_of(sha256(self._graph.model).hexdigest())

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graph computes in."""
        return str(self.facts.get("precision", "fp32"))

    @property
    def model(self) -> UNISAL:
        """Refuse: the file holds no network that PyTorch could run."""
        raise UserError(
            f"{self._path} holds a graph for ONNX Runtime alone; features, GPUs and "
            "runtime='torch' need the run that it was made of"
        )

    def version(self) -> Any:
        """Return the same value always: what has been read does not change."""
        return None

    def graph(self, domain: str, static: bool) -> Graph:
        """Return the graph, if it is the one that is asked for.

        Raises:
            UserError: it is another one.
        """
        if (domain, static) != (self._domain, self.static):
            kinds = {True: "images", False: "videos"}
            raise UserError(
                f"{self._path} holds the graph for {kinds[self.static]} (domain {self._domain}), "
                f"not that for {kinds[static]} (domain {domain})"
            )
        return self._graph


class WithOtherGraphs:
    """A network that is another one, but for its graphs; see `Network`.

    Args:
        network: the other one.
    """

    is_float32 = True

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def sources(self) -> tuple[str, ...]:
        """Its domains."""
        return self._network.sources

    @property
    def image_domains(self) -> tuple[str, ...]:
        """Those of them that were trained on images only."""
        return self._network.image_domains

    @property
    def temperatures(self) -> Mapping[str, float]:
        """What the logits of domains are divided by."""
        return self._network.temperatures

    @property
    def model(self) -> UNISAL:
        """The network itself, in float32."""
        return self._network.model

    @property
    def weights(self) -> Path | None:
        """The file of its weights; None if they were changed since they were read."""
        weights: Path | None = getattr(self._network, "weights", None)
        return weights

    @property
    def needs_pytorch(self) -> bool:
        """Whether a graph may still have to be made."""
        return self._network.needs_pytorch

    def version(self) -> Any:
        """Return a value that changes when the weights are changed or replaced."""
        return self._network.version()

    def precision(self, domain: str, static: bool) -> str:
        """Return what the graph computes in."""
        return self._network.precision(domain, static)

    def graph(self, domain: str, static: bool) -> Graph:
        """Return the graph; see `Network.graph`."""
        return self._network.graph(domain, static)


class WithFeatures(WithOtherGraphs):
    """A run's network whose graphs have its features as outputs, too.

    Args:
        network: the run's network.
    """

    def __init__(self, network: RunNetwork) -> None:
        super().__init__(network)
        self._run = network

    def graph(self, domain: str, static: bool) -> Graph:
        """Return the graph; see `Network.graph`."""
        return self._run.graph(domain, static, features=True)


SavedNetwork = RunNetwork | GraphNetwork
"""A network of which nothing but a graph may be in memory."""
