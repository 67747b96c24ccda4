"""A profile as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from edgekit.errors import MissingEnvironmentError
from edgekit.plan.choose import in_units
from edgekit.profiling import charts
from edgekit.profiling.end_to_end import EndToEnd
from edgekit.profiling.kernels import ALIGNMENT, Kernel, Kernels
from edgekit.profiling.passages import Passage
from edgekit.profiling.providers import Predictions
from edgekit.profiling.result import Profile

MOST_FILES = 8
"""Of a plan: pictures of memory for the files that take longest."""
NUMBERS = {"ms", "p90", "MMAC", "GMAC/s", "MAC/byte", "in use"}
"""Columns of layers that are aligned on the right."""
STYLE = """
:root { --ink: #16202c; --soft: #5b6776; --line: #dfe4ea; --paper: #fff; --accent: #2f6fde; --second: #e08a1e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf1; --soft: #9aa7b5; --line: #2d3743; --paper: #12181f; --accent: #6ea2ff; --second: #f0a84b }
}
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1340px;
  margin: 0 auto; padding: 24px }
h1 { font-size: 22px; margin: 0 0 4px } h2 { font-size: 16px; margin: 32px 0 8px }
p { margin: 4px 0; color: var(--soft) } .note { color: var(--second) }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin-top: 12px }
.facts dt { color: var(--soft) } .facts dd { margin: 0 }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); gap: 16px }
figure { margin: 0 } figcaption { color: var(--soft) } svg { width: 100%; height: auto }
.bar, .dot { fill: var(--accent) } .dot { fill-opacity: .55 } .grid { stroke: var(--line) } .axis { stroke: var(--soft) }
.mark { stroke: var(--second); stroke-dasharray: 3 3 } .roof { fill: none; stroke: var(--second); stroke-width: 2 }
.tick { font-size: 11px; fill: var(--soft) } .name { font-size: 11px; fill: var(--second) }
table { border-collapse: collapse; width: 100% } th { text-align: left; color: var(--soft); font-weight: 500 }
th, td { padding: 3px 10px 3px 0; border-bottom: 1px solid var(--line); white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums } td.share { width: 22%; min-width: 120px }
td.share i { display: block; height: 9px; border-radius: 2px; background: var(--accent) }
td.share i.memory { background: var(--second) } .wide { overflow-x: auto }
"""


def write_page(profile: Profile, path: Path) -> None:
    """Raises MissingEnvironmentError where it cannot be written."""
    try:
        path.write_text(page(profile), encoding="utf-8")
    except OSError as error:
        raise MissingEnvironmentError(
            f"{path} cannot be written: {error.strerror or error}; give another name with --html."
        ) from error


def page(profile: Profile) -> str:
    title = f"{profile.bundle} on {profile.machine.processor}"
    sections = (
        _head(profile), _latency(profile), _end_to_end(profile.end_to_end), _memory(profile),
        _providers(profile.providers), _plan(profile), _layers(profile),
    )  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(profile.bundle)}</h1>{''.join(sections)}</body></html>\n"
    )


def _head(profile: Profile) -> str:
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(told)}</dd>" for name, told in profile.facts()
    )
    files = ", ".join(
        f"{name} {digest[:12]}" for name, digest in sorted(profile.files.items())[:MOST_FILES]
    )
    notes = "".join(
        f'<p class="note">{escape(line.removeprefix("note").strip())}</p>'
        for line in profile.remarks()
    )
    return f'<dl class="facts">{facts}<dt>files</dt><dd>{escape(files)}</dd></dl>{notes}'


def _latency(profile: Profile) -> str:
    latency = profile.timing.latency
    pictures = [
        (
            charts.histogram(latency),
            "How long the runs took; the last bar has all that took longer",
        ),
        (charts.over_time(latency), "Each run in its order, after the warm-up"),
    ]
    if profile.roofline and any(kernel.macs for file in profile.kernels for kernel in file.kernels):
        told = "Each kernel that multiplies: above the slope its data stay in caches; none passes the flat roof"
        pictures.append((charts.ceilings(profile.roofline, profile.kernels), told))
    return f"<h2>Latency</h2>{_figures(pictures)}"


def _end_to_end(found: EndToEnd | None) -> str:
    if found is None:
        return ""
    heads = [
        f"{passage.path}, {'alone' if passage.callers == 1 else f'{passage.callers} callers'}"
        for passage in found.passages
    ]
    steps = found.passages[0].steps
    rows = [
        [escape(step), *(cell for p in found.passages for cell in _step(p, step))] for step in steps
    ]
    rows.append(
        [
            "all",
            *(
                cell
                for p in found.passages
                for cell in (
                    _number(f"{p.total_ms:.2f} ms"),
                    f"<td>{found.per_s(p):.1f} {found.items}/s</td>",
                )
            ),
        ]
    )
    head = "".join(f'<th colspan="2">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr><td>{row[0]}</td>{''.join(row[1:])}</tr>" for row in rows)
    notes = "".join(
        f'<p class="note">{escape(line.removeprefix("note").strip())}</p>'
        for line in found.remarks()
    )
    told = f"{found.source.kind}: {found.headline()}, {in_units(found.file_bytes)}"
    return f'<h2>End to end</h2><p>{told}</p>{notes}<div class="wide"><table><tr><th>step</th>{head}</tr>{body}</table></div>'


def _step(passage: Passage, step: str) -> tuple[str, str]:
    return _number(f"{passage.steps[step].median:.2f} ms"), _share(passage.share(step))


def _plan(profile: Profile) -> str:
    """Of a bundle that runs several files, or one of them several times."""
    if all(file.runs == 1 for file in profile.kernels) and len(profile.kernels) < 2:
        return ""
    rows = [
        [escape(file.file), _number(str(file.runs)), _number(f"{file.runs * file.summed_ms:.3f}"),
         _share(file.runs * file.summed_ms / max(1e-9, profile.summed_ms))]
        for file in profile.kernels
    ]  # fmt: skip
    table = _table(("file", "runs", "ms", "share"), rows, numbers=2)
    return f"<h2>Plan</h2><p>How often one result needs each file</p>{table}"


def _layers(profile: Profile) -> str:
    if not profile.kernels:
        return ""
    names = (
        "layer",
        "operator",
        "output",
        "type",
        "ms",
        "p90",
        "share",
        "MMAC",
        "GMAC/s",
        "MAC/byte",
        "bound",
        "in use",
        "provider",
    )
    head = "".join(_heading(name) for name in names)
    several = len(profile.kernels) > 1
    taken = (file.runs * kernel.p50_ms for file in profile.kernels for kernel in file.kernels)
    longest = max(taken, default=0.0)
    rows = "".join(
        _layer(kernel, file, (profile.summed_ms, longest), several=several)
        for file in profile.kernels
        for kernel in file.kernels
    )
    told = f"In the order they run. Orange bars wait for memory; * marks channels that fill no blocks of {ALIGNMENT}."
    return (
        f'<h2>Layers</h2><p>{told}</p><div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
    )


def _layer(
    kernel: Kernel, file: Kernels, summed_and_longest_ms: tuple[float, float], *, several: bool
) -> str:
    summed_ms, longest_ms = summed_and_longest_ms
    name = (f"{file.file} ({file.runs} times): " if several else "") + (
        kernel.module or kernel.name
    )
    shape = "x".join(map(str, kernel.outputs[0])) if kernel.outputs else ""
    taken = file.runs * kernel.p50_ms
    cells = [
        f"<td>{escape(name)}</td><td>{escape(kernel.operator)}</td>",
        f"<td>{escape(shape)}{'' if kernel.is_aligned else ' *'}</td><td>{escape(kernel.element_type)}</td>",
        _number(f"{taken:.3f}"),
        _number(f"{file.runs * kernel.p90_ms:.3f}"),
        _share(
            taken / max(1e-9, summed_ms),
            taken / max(1e-9, longest_ms),
            is_memory=kernel.bound == "memory",
        ),
        _number(f"{kernel.macs / 1e6:.2f}" if kernel.macs else ""),
        _number(f"{kernel.gmacs_per_s:.1f}" if kernel.macs else ""),
        _number(f"{kernel.macs / max(1, kernel.moved_bytes):.1f}" if kernel.macs else ""),
        f"<td>{kernel.bound or ''}</td>",
        _number("" if kernel.live_bytes is None else in_units(kernel.live_bytes)),
        f"<td>{escape(kernel.provider.removesuffix('ExecutionProvider'))}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _memory(profile: Profile) -> str:
    longest = sorted(profile.kernels, key=lambda file: -file.runs * file.summed_ms)[:MOST_FILES]
    pictures = [
        (charts.memory(file), f"{file.file}: what the runtime had in use after each kernel, weights that it laid out anew included")
        for file in longest
    ]  # fmt: skip
    footprint = profile.footprint
    heads = ("fresh process with the settings", "load peak", "loaded", "run peak above it", "kept")
    rows = [
        [escape(one.memory), *(_number(in_units(n)) for n in (one.load_peak_bytes, one.loaded_bytes, one.run_peak_bytes, one.kept_bytes))]
        for one in footprint.process
    ]  # fmt: skip
    table = _table(heads, rows) if rows else ""
    reason = f'<p class="note">{escape(footprint.reason)}</p>' if footprint.reason else ""
    peaks = (
        (footprint.runtime_peak_bytes, "asked for by the runtime at once"),
        (footprint.static_peak_bytes, "predicted by the plan"),
    )
    told = "; ".join(f"{in_units(count)} {name}" for count, name in peaks if count is not None)
    return f"<h2>Memory</h2><p>{told}</p>{reason}{table}{_figures([p for p in pictures if p[0]])}"


def _providers(found: Predictions | None) -> str:
    if found is None:
        return ""
    heads = ("provider", "nodes", "partitions", "share of the work", "why nodes run elsewhere")
    rows = [
        [escape(one.provider), _number(f"{one.taken} of {one.nodes}"), _number(str(one.partitions)), _share(one.mac_share),
         f"<td>{escape('; '.join(f'{count} {reason}' for reason, count in one.refusals[:3]))}</td>"]
        for one in found.predicted
    ]  # fmt: skip
    return f"<h2>Execution providers</h2><p>Predicted: {escape(found.remark())}.</p>{_table(heads, rows, numbers=2)}"


def _figures(pictures: Iterable[tuple[str, str]]) -> str:
    figures = (
        f"<figure>{picture}<figcaption>{escape(told)}</figcaption></figure>"
        for picture, told in pictures
    )
    return f'<div class="pair">{"".join(figures)}</div>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: int | None = None) -> str:
    """So many columns after the first are numbers; None: all."""
    first, *others = heads
    several = len(others) if numbers is None else numbers
    head = f"<th>{escape(first)}</th>" + "".join(
        f"<th{' class=n' if at < several else ''}>{escape(name)}</th>"
        for at, name in enumerate(others)
    )
    body = "".join(f"<tr><td>{row[0]}</td>{''.join(row[1:])}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _heading(name: str) -> str:
    return f'<th class="n">{name}</th>' if name in NUMBERS else f"<th>{name}</th>"


def _number(text: str) -> str:
    return f'<td class="n">{text}</td>'


def _share(share: float, length: float | None = None, *, is_memory: bool = False) -> str:
    """A bar as long as the share, or as `length`, 0 to 1."""
    kind = ' class="memory"' if is_memory else ""
    width = 100 * (share if length is None else length)
    return f'<td class="share" title="{share:.1%}"><i{kind} style="width:{width:.2f}%"></i></td>'
