"""The Bayesian networks of Xu et al. (NeurIPS 2019), and what is asked of rows made like theirs.

A network is read from a file of the Bayesian Interchange Format, as the bnlearn repository has it.
Two figures, higher is better:

- **L_syn**, the mean over the synthetic rows of the log of their probability in the network, plus
  `LEAST`: no row falls under -18.4;
- **L_test**, that of the test rows in the same structure, its probabilities counted anew in the
  synthetic rows.

A row with a value that the network does not know has probability 0, and so has a test row whose
parents' values were never made together.

Shapes: B rows, N nodes.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.errors import ConfigError

ROWS = 10_000
LEAST = 1e-8

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_NETWORK = re.compile(r"network\s+\S+\s*\{\s*\}")
_VARIABLE = re.compile(
    r"variable\s+(\S+)\s*\{\s*type\s+discrete\s*\[\s*(\d+)\s*\]\s*\{([^{}]*)\}\s*;\s*\}"
)
_PROBABILITY = re.compile(r"probability\s*\(([^()|]*)(?:\|([^()|]*))?\)\s*\{([^{}]*)\}")
_ROW = re.compile(r"\s*(?:table|\(([^()]*)\))\s+([^()]*)")


@dataclass(frozen=True)
class Node:
    """One variable: its values, its parents, and probabilities (parents' sizes.., own size)."""

    values: tuple[str, ...]
    parents: tuple[str, ...]
    table: Floats


@dataclass(frozen=True)
class Network:
    """Discrete nodes by name, each with its distribution given its parents."""

    nodes: dict[str, Node]

    @property
    def arcs(self) -> int:
        """How many."""
        return sum(len(node.parents) for node in self.nodes.values())

    @property
    def parameters(self) -> int:
        """How many are free: a row of probabilities sums to 1."""
        tables = (node.table for node in self.nodes.values())
        return sum(table.size - table.size // table.shape[-1] for table in tables)

    @cached_property
    def _members(self) -> dict[str, tuple[int, ...]]:
        """Columns of each node's parents, then its own."""
        place = {name: column for column, name in enumerate(self.nodes)}
        return {
            name: tuple(place[member] for member in (*node.parents, name))
            for name, node in self.nodes.items()
        }

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Rows to train on and rows to test on, always the same."""
        codes = self.sample(2 * ROWS, np.random.default_rng(0))
        return self._decoded(codes[:ROWS]), self._decoded(codes[ROWS:])

    def sample(self, rows: int, rng: np.random.Generator) -> Codes:
        """Indices of values (B, N), drawn parents first."""
        codes = np.zeros((rows, len(self.nodes)), np.int64)
        order = TopologicalSorter({name: node.parents for name, node in self.nodes.items()})
        for name in order.static_order():
            *parents, own = self._members[name]
            table = self.nodes[name].table
            shares = np.broadcast_to(table[tuple(codes[:, parents].T)], (rows, table.shape[-1]))
            passed = np.cumsum(shares, axis=1)[:, :-1] <= rng.uniform(size=(rows, 1))
            codes[:, own] = passed.sum(1)
        return codes

    def probability(self, codes: Codes) -> Floats:
        """The probability of each row (B); 0 where a code is -1."""
        found = np.where((codes < 0).any(1), 0.0, 1.0)
        for name, members in self._members.items():
            found *= self.nodes[name].table[tuple(codes[:, members].T)]
        return found

    def refit(self, codes: Codes) -> "Network":
        """The same structure with the likeliest probabilities: shares counted in `codes`."""
        known = codes[(codes >= 0).all(1)]
        nodes = {}
        for name, node in self.nodes.items():
            counts = np.zeros_like(node.table)
            np.add.at(counts, tuple(known[:, self._members[name]].T), 1)
            table = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
            nodes[name] = Node(node.values, node.parents, table)
        return Network(nodes)

    def figures(self, drawn: pa.Table, test: pa.Table, seed: int) -> dict[str, float]:
        """L_syn and L_test. Nothing in them is left to chance, so `seed` decides nothing."""
        made, held = self._encoded(drawn), self._encoded(test)
        parts = {"L_syn": (self, made), "L_test": (self.refit(made), held)}
        return {
            name: float(np.log(network.probability(codes) + LEAST).mean())
            for name, (network, codes) in parts.items()
        }

    def _decoded(self, codes: Codes) -> pa.Table:
        nodes = zip(self.nodes.items(), codes.T, strict=True)
        return pa.table(
            {name: pa.array(node.values).take(column) for (name, node), column in nodes}
        )

    def _encoded(self, table: pa.Table) -> Codes:
        columns = [
            pc.index_in(table.column(name), value_set=pa.array(node.values)).fill_null(-1)
            for name, node in self.nodes.items()
        ]
        return np.stack([column.to_numpy() for column in columns], axis=1).astype(np.int64)


def read(path: Path) -> Network:
    """The network in a file.

    Raises `ConfigError` where it is absent, holds what we do not read (`default`, `property`), or
    does not give every probability of every variable, once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a Bayesian network, a .bif file: {error}") from None
    values = {}
    for name, size, listed in _VARIABLE.findall(text):
        values[name] = _words(listed)
        if len(set(values[name])) != int(size) or len(values[name]) != int(size):
            _fail(path, f"{size} values of {name}", f"{len(set(values[name]))}")
    nodes = {}
    for name, parents, body in _PROBABILITY.findall(text):
        family = (*_words(parents), name.strip())
        if not set(family) <= set(values) or family[-1] in nodes:
            _fail(path, "one distribution of known variables", f"({', '.join(family)})")
        sizes = {member: values[member] for member in family}
        nodes[family[-1]] = Node(values[family[-1]], family[:-1], _table(path, sizes, body))
    left = _PROBABILITY.sub("", _VARIABLE.sub("", _NETWORK.sub("", text))).split()
    if left or nodes.keys() != values.keys():
        _fail(path, "variables and a distribution of each alone", " ".join(left[:3]) or "fewer")
    return Network({name: nodes[name] for name in values})


def _table(path: Path, values: dict[str, tuple[str, ...]], body: str) -> Floats:
    """Probabilities (parents' sizes.., own size), from rows in any order of the parents' values."""
    *parents, name = values
    table = np.full([len(values[member]) for member in values], np.nan)
    for line in filter(str.strip, body.split(";")):
        row = _ROW.fullmatch(line)
        given = _words(row[1] or "") if row else ()
        if row is None or len(given) != len(parents):
            _fail(path, f"rows of {name} that name {len(parents)} values", line.strip())
        if any(word not in values[member] for member, word in zip(parents, given, strict=True)):
            _fail(path, f"known values of the parents of {name}", line.strip())
        place = tuple(values[p].index(word) for p, word in zip(parents, given, strict=True))
        shares = [float(word) for word in _words(row[2])]
        if len(shares) != table.shape[-1] or abs(sum(shares) - 1) > 1e-6 or min(shares) < 0:
            _fail(path, f"{table.shape[-1]} probabilities of {name} that sum to 1", line.strip())
        if not np.isnan(table[place]).all():
            _fail(path, f"each row of {name} once", line.strip())
        table[place] = shares
    if np.isnan(table).any():
        rows = int(np.isnan(table[..., 0]).sum())
        _fail(path, f"a row of {name} for all values of its parents", f"{rows} too few")
    return table


def _words(listed: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in listed.split(",")) if listed.strip() else ()


def _fail(path: Path, expected: str, got: str) -> NoReturn:
    raise ConfigError(f"{path}: expected {expected}, got {got}; mend the file")
