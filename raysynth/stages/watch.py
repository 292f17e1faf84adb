"""Who watches a job: on a cluster its rows are counted where Prometheus asks for them.

Ray is imported only where it is in use already, or a cluster is at hand: a small sample on a laptop
does not wait for it.
"""

import os
import sys

from raysynth.progress import Show, Silent


def watched(show: Show | None, run: str) -> Show:
    """`show` or silence, its rows counted as those of `run` where there is a cluster to ask.

    One whose rows are counted already, as those of the job that this is a part of, stays.
    """
    show = show or Silent()
    at_hand = bool(os.environ.get("RAY_ADDRESS"))
    if not at_hand and not ("ray" in sys.modules and sys.modules["ray"].is_initialized()):
        return show
    from raysynth.stages import cluster, meters

    cluster.connect(0)
    return show if isinstance(show, meters.Metered) else meters.Metered(show, run)
