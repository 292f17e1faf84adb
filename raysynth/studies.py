"""A study for the eye and for programs: Optuna's plots on one page, every trial in a table."""

import io
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
import optuna.visualization.matplotlib as plots
import pyarrow as pa
from markupsafe import Markup, escape

from raysynth.search import OBJECTIVES, SearchConfig

Trials = Sequence[Mapping[str, Any]]
FEW = 4  # complete trials of which nobody can tell what decided

_STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5b6570; --line: #d8dde3; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa5b1; --line: #39424c; --paper: #14181d }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } p { max-width: 45rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem; text-align: left }
td.number { text-align: right } tr.chosen { font-weight: 600 }
figure { margin: 1rem 0; background: #fff; border-radius: 6px; padding: .5rem; overflow-x: auto }
small { color: var(--soft) }
"""


def table(trials: Iterable[Mapping[str, Any]], chosen: Sequence[str]) -> pa.Table:
    """Every trial in a row: what was tried as JSON, what was measured, or why it has no figures."""
    rows = list(trials)
    names = sorted({name for one in rows for name in one["figures"]})
    return pa.table(
        {
            "number": pa.array([one["number"] for one in rows], pa.int64()),
            "state": pa.array([one["state"] for one in rows], pa.string()),
            "chosen": pa.array([f"{one['number']:04d}" in chosen for one in rows], pa.bool_()),
            "seconds": pa.array([one["seconds"] for one in rows], pa.float64()),
            "parameters": pa.array([json.dumps(one["parameters"]) for one in rows], pa.string()),
            **{
                name: pa.array([one["figures"].get(name) for one in rows], pa.float64())
                for name in names
            },
            "why": pa.array([one["why"] for one in rows], pa.string()),
        }
    )


def page(study: optuna.Study, search: SearchConfig, trials: Trials, chosen: Sequence[str]) -> str:
    """The study as one page without outside requests: what was chosen, the plots, every trial."""
    done = sum(one["state"] == "complete" for one in trials)
    said = ", ".join(f"{name} ({OBJECTIVES[name].what})" for name in search.objectives)
    picked = ", ".join(chosen) or "none: the gate fails all that were looked at"
    told = f"{len(trials)} trials, {done} of them complete. Searched for: {said}. Chosen: {picked}."
    parts = [
        f"<h1>Search: {escape(study.study_name)}</h1>",
        f"<p>{escape(told)}</p>",
        *(f"<h2>{title}</h2><figure>{drawn}</figure>" for title, drawn in _drawn(study, search)),
        "<h2>Every trial</h2>",
        _rows(search, trials, chosen),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>Search: {escape(study.study_name)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(map(str, parts))}</body></html>"
    )


def _rows(search: SearchConfig, trials: Trials, chosen: Sequence[str]) -> str:
    measured = dict.fromkeys((*search.measured, "cost"))
    head = ("trial", "state", *measured, "tried", "note")
    lines = []
    for one in trials:
        figures = one["figures"]
        cells = [f"{figures[name]:.4f}" if name in figures else "" for name in measured]
        tried = ", ".join(f"{key} {_short(value)}" for key, value in one["parameters"].items())
        mark = ' class="chosen"' if f"{one['number']:04d}" in chosen else ""
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(
            f"<tr{mark}><td>{one['number']}</td><td>{one['state']}</td>{numbers}"
            f"<td><small>{escape(tried)}</small></td><td><small>{escape(one['why'])}</small></td>"
            "</tr>"
        )
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f'<div class="wide"><table><tr>{top}</tr>{"".join(lines)}</table></div>'


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _drawn(study: optuna.Study, search: SearchConfig) -> list[tuple[str, Markup]]:
    """Optuna's plots that the trials are enough for: of a single one they would say nothing."""
    found: list[tuple[str, Markup]] = []
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(done) < 2:
        return found
    across = 0.8 * (1 + len({name for one in done for name in one.params}))
    for place, name in enumerate(search.objectives):

        def value(trial: optuna.trial.FrozenTrial, place: int = place) -> float:
            return float(trial.values[place])

        target: dict[str, Any] = {"target": value, "target_name": name}
        found += _one(f"{name} by trial", plots.plot_optimization_history, study, **target)
        of_all = plots.plot_parallel_coordinate
        found += _one(f"{name} by parameters", of_all, study, across=across, **target)
        if len(done) > FEW:
            decides = plots.plot_param_importances
            found += _one(f"What decides {name}, as far as is known", decides, study, **target)
    if len(search.objectives) in (2, 3):
        names = list(search.objectives)
        found += _one("The front", plots.plot_pareto_front, study, target_names=names)
    return found


def _one(
    title: str, plot: Callable[..., Any], study: Any, across: float = 0.0, **options: Any
) -> list[Any]:
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "raysynth", "font.size": 8}):
        warnings.simplefilter("ignore")
        try:
            drawn = plot(study, **options)
        except (ValueError, RuntimeError, ZeroDivisionError):  # of too few trials
            return []
        axes = drawn.flat[0] if hasattr(drawn, "flat") else drawn
        figure, sink = axes.get_figure(), io.StringIO()
        figure.set_size_inches(max(across, figure.get_figwidth()), figure.get_figheight())
        figure.savefig(sink, format="svg", metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)
    text = sink.getvalue()
    return [(title, Markup(text[text.index("<svg") :]))]
