"""`edgekit.profile`: everything that is measured of one bundle, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import onnxruntime

from edgekit.backends.onnx.session import allowed_cpus
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, first_line
from edgekit.parity.onnx_steps import noise
from edgekit.profiling.comparison import Comparison, compare
from edgekit.profiling.end_to_end import Source, measure_end_to_end, require_end_to_end
from edgekit.profiling.footprint import bundle_bytes, measure_footprint
from edgekit.profiling.golden import Golden
from edgekit.profiling.kernels import Kernels, profile_kernels
from edgekit.profiling.machine import Machine, condition_now, this_machine
from edgekit.profiling.opened import (
    Opened,
    Sessions,
    measured_name,
    open_for_measuring,
    require_measurable,
)
from edgekit.profiling.opening import measure_opening
from edgekit.profiling.providers import predict
from edgekit.profiling.result import Head, Profile
from edgekit.profiling.roofline import Roofline, measure_roofline
from edgekit.profiling.split_pipeline import HERE, Sending
from edgekit.profiling.timing import TimingOptions, runs_per_second, time_runs
from edgekit.split.bundle import SplitBundle, SplitFacts
from edgekit.split_parity import head_parity

CPU = "CPUExecutionProvider"
CALLERS = (1, 2, 4)
THROUGHPUT_SHARE = 0.2
"""Of the seconds to measure for, for each number of callers."""


@dataclass(frozen=True)
class ProfileOptions:
    threads: int = 0
    """0: as many as this process may use."""
    timing: TimingOptions = field(default_factory=TimingOptions)
    source: Source | None = None
    """To measure all steps from its file to boxes, classes, or an encoded picture or video."""
    provider: str = CPU
    """Of onnxruntime's, on a device that has it; here it is the CPU's."""
    sending: Sending = HERE
    """Of a split bundle, with a source."""

    @property
    def threads_used(self) -> int:
        return self.threads or allowed_cpus()


def profile_bundle(
    bundle: Bundle, options: ProfileOptions, progress: Callable[[str], None] = lambda _step: None
) -> Profile:
    """Measures on this machine with onnxruntime's CPU provider.

    Of what broke off later, as by a lost link to a tail's server, a Profile that says so. Before anything is measured
    raises UsageError, MissingEnvironmentError without PyAV, LinkError or PacketError for a server that gives no answer.
    """
    threads = options.threads_used
    sessions = Sessions(threads)
    require_measurable(bundle)
    progress("opening")
    opening = measure_opening(bundle, threads)  # before the files are open here
    opened = open_for_measuring(bundle, sessions)
    if options.source is not None:
        require_end_to_end(opened, options.source, threads, options.sending)
    run = opened.timed()
    golden = _golden(opened)
    before = condition_now()
    progress("latency")
    timing = time_runs(run, options.timing)
    after = condition_now()
    progress("throughput")
    seconds = THROUGHPUT_SHARE * options.timing.seconds
    throughput = {callers: runs_per_second(run, callers, seconds) for callers in CALLERS}
    progress("layers")
    roofline = measure_roofline(threads)
    kernels = _kernels(opened, sessions, roofline)
    end_to_end, incomplete = None, ""
    if options.source is not None:
        progress(options.source.kind)
        try:
            end_to_end = measure_end_to_end(
                opened, options.source, options.timing.seconds, threads, options.sending
            )
            incomplete = end_to_end.incomplete
        except EdgekitError as error:  # all else was measured
            incomplete = first_line(error)
    progress("memory")
    return Profile(
        bundle=bundle.path.name,
        files=dict(bundle.manifest["files"]),
        disk_bytes=bundle_bytes(bundle),
        threads=threads,
        machine=machine_here(),
        before=before,
        after=after,
        timing=timing,
        throughput=throughput,
        opening=opening,
        kernels=kernels,
        roofline=roofline,
        footprint=measure_footprint(opened, kernels, threads),
        end_to_end=end_to_end,
        golden=golden,
        head=Head.of(bundle),
        incomplete=incomplete,
        providers=predict(bundle.model_file) if opened.plan is None else None,
    )


def _golden(opened: Opened) -> Golden | None:
    """Of a head, whose numbers a tail must understand; whole networks have `edgekit verify`. Raises UsageError."""
    if SplitFacts.of(opened.bundle) is None:
        return None
    found = head_parity(SplitBundle(opened.bundle), opened.run())
    return Golden.of(found, opened.bundle.gate.psnr_db)


def machine_here() -> Machine:
    return this_machine(f"onnxruntime {onnxruntime.__version__} {CPU}")


def _kernels(opened: Opened, sessions: Sessions, roofline: Roofline) -> tuple[Kernels, ...]:
    """A plan's files get noise: what they are given depends on the files before."""
    found = []
    for file, (session, runs) in opened.files().items():
        path = opened.bundle.path / file
        feeds = opened.inputs if opened.plan is None else noise(sessions.load(path, session))
        options = sessions.options(session)
        # One arena for all sessions would count those of the others.
        alone = replace(
            options, memory=replace(options.memory, arena="own", first_chunk_bytes=None)
        )
        found.append(profile_kernels(path, feeds, alone, roofline, runs))
    return tuple(found)


def compare_bundles(first: Bundle, second: Bundle, options: ProfileOptions) -> Comparison:
    """Both in this process, in turns. Raises UsageError."""
    threads = options.threads_used
    for bundle in (first, second):
        require_measurable(bundle)
    opened = [open_for_measuring(bundle, Sessions(threads)) for bundle in (first, second)]
    names = (measured_name(first), measured_name(second))
    return compare(
        names, (opened[0].timed(), opened[1].timed()), options.timing, threads, machine_here()
    )
